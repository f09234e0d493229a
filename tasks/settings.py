"""The settings of fine-tuning that all tasks share, as scripts parse them from the command line."""

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
    """What to fine-tune and how to distil."""

    task: ClassVar[str]
    """Its name, for people."""
    data: LowShotSplit
    """The task's own kind."""
    test_sets: tuple[str, ...] = ()
    """Sets that every trained student is scored on."""

    student: str = "dandelin/vilt-b32-mlm"
    """Hugging Face id or folder of a ViLT, VisualBERT, LXMERT, BridgeTower, FLAVA or BLIP."""
    regions: Annotated[str | None, shown_default("none")] = None
    """Region students: a timm backbone, or local-dir:FOLDER, whose features the boxes get."""
    region_mode: Literal["crop", "roi_align"] = "crop"
    """Region students: the backbone sees each box by itself, or the image once."""
    region_cache: Annotated[Path | None, shown_default("inside the run folder")] = None
    """Region students: folder where region features are kept. None: inside the run folder."""
    teacher: str = DEFAULT_TEACHER
    """An open_clip model name or folder, hf:ID or hf:FOLDER; several joined by commas are an ensemble."""
    pretrained: Annotated[str | None, shown_default("openai for the default teacher")] = None
    """open_clip's tag of the teacher's weights. The default teacher's is openai."""
    teacher_boxes: TeacherBoxes = "crop"
    """What the teacher sees of each box: its crop, or the image with all else painted over (for teachers that know
    no magnified objects); "none": the teacher sees whole images only."""
    methods: tuple[Method, ...] = ("none", "targeted")
    """Methods to train one after the other, each from the same start; "none" is what the others are compared with."""
    distillation: DistillationChanges = field(default_factory=DistillationChanges)
    """Settings that differ from each method's own."""
    source: Literal["store", "live"] = "store"
    """Precompute the teacher's knowledge, or ask the teacher at every step. Live, the mean image that words' visual
    relevance is relative to is of the first 512 training images, not of all."""
    store: Annotated[Path | None, shown_default("one is made in the run folder")] = None
    """A store made by build_store.py, only read here; a run goes on with it wherever it lies, and with no other one, of
    more images. None: made in the run folder. The method adapted_teacher has its own."""
    adaptation: TrainingConfig = field(default_factory=adaptation_defaults)
    """How the method adapted_teacher first fine-tunes the teacher on the labelled items' images and true texts; its
    seed and whether it resumes are the run's."""
    unlabelled: Annotated[Path | None, shown_default("none")] = None
    """jsonl of images and texts without labels, {"image", "text"} a line, that are distilled beside every batch."""
    unlabelled_weight: float = 1.0
    """Of their distillation, relative to the labelled items'."""
    max_test_items: Annotated[int | None, shown_default("all")] = None
    """Score only the first items of each test set."""
    max_text_tokens: int = 64
    """Longer texts lose their end."""
    eval_batch_size: int = 64
    """Examples a forward pass in evaluation."""
    run_dir: Path = Path("runs/task")
    """Everything the run writes; the same command resumes there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(steps=2000, batch_size=32, lr=5e-5, warmup_steps=200)
    )

    def __post_init__(self) -> None:
        if self.teacher == DEFAULT_TEACHER and self.pretrained is None:
            self.pretrained = ITS_WEIGHTS
        if self.source == "live" and self.store is not None:
            raise ValueError("source live asks the teacher at every step and reads no store; leave store out")
        if self.adaptation.resume == "never" and self.training.resume == "auto":
            raise ValueError(
                "adaptation.resume is 'never' and training.resume 'auto': a run that goes on keeps its adapted "
                "teacher; leave adaptation.resume out, or begin both anew with training.resume 'never' (--resume never)"
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
                f"source live and the method teacher_input ask the teacher while batches are made, in this process; "
                f"num_workers is {self.training.num_workers}, expected 0 (or use --source store)"
            )

    @property
    def seed(self) -> int:
        """Of the split, the fresh weights and the order of the examples."""
        return self.training.seed

    @property
    @abstractmethod
    def metrics(self) -> dict[str, str]:
        """Keys of result rows, and what people call them."""

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        """Return the keys of an evaluation that may choose the best step."""
        return tuple(self.metrics)

    @property
    def sees_boxes(self) -> bool:
        """Whether the teacher is shown boxes."""
        return self.teacher_boxes != "none" and self.data.has_boxes

    def method_config(self, method: Method) -> TargetedDistillationConfig:
        """The distillation settings of one method.

        A term that the method leaves out stays out, whatever weight the changes give it: "none" distils nothing.
        """
        left_out = {k for k, v in vars(TargetedDistillationConfig.for_method(method)).items() if v == 0.0}
        changes = {k: v for k, v in self.distillation.given().items() if k not in left_out & {*WEIGHTS}}
        return TargetedDistillationConfig.for_method(method, **changes)
