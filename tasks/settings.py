"""The settings of fine-tuning that all tasks share, as commands parse them from the command line."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from cliptd.targeted.changes import DistillationChanges
from cliptd.targeted.config import WEIGHTS, Method, TargetedDistillationConfig
from cliptd.teachers.adaptation_config import adaptation_defaults
from cliptd.training import TrainingConfig
from cliptd.utils.options import shown_default
from tasks.batches.box_views import TeacherBoxes
from tasks.labelled_split import LowShotSplit

DEFAULT_TEACHER, ITS_WEIGHTS = "ViT-L-14", "openai"


@dataclass(kw_only=True)
class FinetuneSettings(ABC):
    """What to fine-tune and how to distil.

    Raises:
        ValueError: two settings contradict each other, or a value is out of range. The message names the field.
    """

    task: ClassVar[str]
    """The name of the task, for people."""
    data: LowShotSplit
    """The data, and how much of it is labelled."""
    test_sets: tuple[str, ...] = ()
    """Sets that every trained student is scored on."""

    student: str = "dandelin/vilt-b32-mlm"
    """Hugging Face id or folder of a ViLT, VisualBERT, LXMERT, BridgeTower, FLAVA or BLIP."""
    regions: Annotated[str | None, shown_default("none")] = None
    """The backbone of students that read region features: a timm model, or local-dir:FOLDER."""
    region_mode: Literal["crop", "roi_align"] = "crop"
    """How that backbone looks: at the crop of each box, or once at the image."""
    region_cache: Annotated[Path | None, shown_default("inside the run folder")] = None
    """Folder where region features are kept."""
    teacher: str = DEFAULT_TEACHER
    """An open_clip model name or folder, hf:ID or hf:FOLDER. Several, joined by commas, are an ensemble."""
    pretrained: Annotated[str | None, shown_default("openai for the default teacher")] = None
    """The open_clip tag of the teacher's weights."""
    teacher_boxes: TeacherBoxes = "crop"
    """What the teacher sees of each box. "crop": the box alone, magnified. "alone": the image with all else painted over,
    for teachers that do not know magnified objects. "none": the teacher sees whole images only."""
    methods: tuple[Method, ...] = ("none", "targeted")
    """Methods to train one after the other, each from the same start. The others are compared with "none"."""
    distillation: DistillationChanges = field(default_factory=DistillationChanges)
    """Settings of distillation that replace each method's own."""
    source: Literal["store", "live"] = "store"
    """"store": ask the teacher once, before training. "live": ask it at every step. Words are visually relevant
    relative to a mean image, which is then the mean of the first 512 training images instead of all."""
    store: Annotated[Path | None, shown_default("one is made in the run folder")] = None
    """A store that build_store.py made, which is only read. A run goes on with the same store, also if it was moved. The
    method adapted_teacher has a store of its own."""
    adaptation: TrainingConfig = field(default_factory=adaptation_defaults)
    """How the method adapted_teacher fine-tunes the teacher first, on the labelled items' images and true texts. Its
    --seed and --resume are the run's."""
    unlabelled: Annotated[Path | None, shown_default("none")] = None
    """A jsonl file of images and texts without labels, one {"image", "text"} per line. Each batch distils some of them
    too."""
    unlabelled_weight: float = 1.0
    """Weight of the distillation of unlabelled examples, relative to that of labelled ones."""
    max_test_items: Annotated[int | None, shown_default("all")] = None
    """Score only this many items of each test set, the first ones."""
    max_text_tokens: int = 64
    """The most tokens of a text. Longer texts lose their end."""
    eval_batch_size: int = 64
    """Examples per forward pass in evaluation."""
    run_dir: Path = Path("runs/task")
    """Folder of everything that the run writes. The same command goes on there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(steps=2000, batch_size=32, lr=5e-5, warmup_steps=200)
    )

    def __post_init__(self) -> None:
        if self.teacher == DEFAULT_TEACHER and self.pretrained is None:
            self.pretrained = ITS_WEIGHTS
        if self.source == "live" and self.store is not None:
            raise ValueError("source is 'live' and reads no store; remove store, or use --source store")
        if self.adaptation.resume == "never" and self.training.resume == "auto":
            raise ValueError(
                "adaptation.resume is 'never' and training.resume 'auto', but a run that goes on keeps its adapted "
                "teacher; remove adaptation.resume, or begin both anew with training.resume 'never' (--resume never)"
            )
        if self.max_test_items is not None and self.max_test_items < 1:
            raise ValueError(
                f"max_test_items is {self.max_test_items}, expected at least 1, or nothing for all"
            )
        if self.training.metric is None:
            raise ValueError("training.metric is None; name the validation metric that chooses the best step")
        if self.training.metric not in self.validation_metrics:
            raise ValueError(
                f"training.metric is {self.training.metric!r}, expected one of {', '.join(self.validation_metrics)}"
            )
        if self.training.num_workers > 0 and (self.source == "live" or "teacher_input" in self.methods):
            raise ValueError(
                f"num_workers is {self.training.num_workers}, expected 0: --source live and the method teacher_input ask "
                "the teacher in this process while batches are made; use --source store for more"
            )

    @property
    def seed(self) -> int:
        """Return the seed of the split, of fresh weights and of the order of the examples."""
        return self.training.seed

    @property
    @abstractmethod
    def metrics(self) -> dict[str, str]:
        """Return the names that people read, by the keys of result rows."""

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        """Return the keys of an evaluation that may choose the best step."""
        return tuple(self.metrics)

    @property
    def sees_boxes(self) -> bool:
        """Return whether the teacher is shown boxes."""
        return self.teacher_boxes != "none" and self.data.has_boxes

    def method_config(self, method: Method) -> TargetedDistillationConfig:
        """Return the distillation settings of one method.

        A term that the method does not have stays out, whatever weight the changes give it: "none" distils nothing.
        """
        left_out = {k for k, v in vars(TargetedDistillationConfig.for_method(method)).items() if v == 0.0}
        changes = {k: v for k, v in self.distillation.given().items() if k not in left_out & {*WEIGHTS}}
        return TargetedDistillationConfig.for_method(method, **changes)
