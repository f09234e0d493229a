"""Fine-tune a student on a task with each of several methods and score it; the part that all tasks share."""

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from accelerate import Accelerator
from tqdm import tqdm
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from cliptd.targeted.collator import DistillationCollator
from cliptd.training import make_accelerator, train
from cliptd.training.files import write_atomically
from cliptd.wrap import wrap
from tasks.collate import PatchCollator, RegionCollator
from tasks.regions import RegionFeatures
from tasks.settings import FinetuneSettings
from tasks.students import NativeStudent
from tasks.teacher_source import teacher_source
from tasks.texts import ExampleTexts

REGION_MEMORY = 2**29
"""Bytes of region features that a process keeps; the others are read from the disk."""
REGION_STUDENTS = ("visual_bert", "lxmert")


class Task(Protocol):
    """What `finetune` asks of a task; made of its settings and an accelerator."""

    training_set: Any
    validation_set: Any
    tests: Mapping[str, Any]
    split: Mapping[str, Any]
    """Of the data, for config.json and results.json; "training_hash" names the training set."""
    collate: PatchCollator | RegionCollator
    settings: Mapping[str, Any]
    """What else changes what is learned: a run folder refuses other values when it is resumed."""

    def __init__(self, settings: Any, accelerator: Accelerator) -> None: ...

    def load_student(self) -> NativeStudent:
        """A fresh student."""

    def scores(self, model: torch.nn.Module, dataset: Any, write_to: Path | None = None) -> dict[str, Any]:
        """Numbers of a set, the validation metric among them; predictions that the task's metric reads also go to the
        file `write_to`, its suffix left to the task."""

    def finish(self, student: NativeStudent, run_dir: Path) -> None:
        """What else is done with a trained student: files for a server."""


def finetune(settings: FinetuneSettings, task_class: type[Task]) -> list[dict[str, Any]]:
    """Train and score every method; rows of results, also in `run_dir`/results.json.

    Each row has method, test_set, the task's scores, labelled (items), seed and best_step.
    """
    accelerator = make_accelerator(settings.training, settings.run_dir)
    task = task_class(settings, accelerator)
    main = accelerator.is_main_process
    if isinstance(task.collate, RegionCollator):
        if main:  # compute every region feature once, on the accelerator; collating only reads them
            for dataset in (task.training_set, task.validation_set, *task.tests.values()):
                task.collate.regions.precompute(tqdm(dataset, desc="regions", unit="example", disable=None))
        accelerator.wait_for_everyone()
    asking_collate = copy.copy(
        task.collate
    )  # the same tokenizer and regions; its batches ask the teacher, too
    asking_collate.distillation = True
    rows = []
    for method in settings.methods:
        config = settings.method_config(method)
        run_dir = settings.run_dir / method
        torch.manual_seed(settings.seed)
        student = task.load_student()
        batches, source = task.collate, None
        if config.distils:
            source, frequency = teacher_source(
                settings, config, task.training_set, task.collate, accelerator, task.split["training_hash"]
            )
            batches = DistillationCollator(asking_collate, source, config, document_frequency=frequency)
        torch.manual_seed(settings.seed)  # the heads start alike, however the teacher was loaded
        model = wrap(student, source, config)

        def validate(model) -> dict[str, float]:
            return task.scores(model, task.validation_set)

        described = {
            "method": method,
            "distillation": dataclasses.asdict(config),
            "student": settings.student,
            "teacher": f"{settings.teacher} {settings.pretrained or ''}".strip() if config.distils else None,
            "teacher_fingerprint": None if source is None else source.fingerprint,
            "split": task.split,
            "max_text_tokens": settings.max_text_tokens,
            "teacher_boxes": settings.teacher_boxes,
            "regions": settings.regions,
            "region_mode": settings.region_mode,
            "source": settings.source,
            **task.settings,
        }
        result = train(
            model,
            task.training_set,
            batches,
            settings.training,
            run_dir=run_dir,
            evaluate=validate,
            accelerator=accelerator,
            settings=described,
        )
        student = model.unwrap()
        common = {
            "method": method,
            "labelled": task.split["labelled_items"],
            "seed": settings.seed,
            "best_step": result.best_step,
        }
        rows.append({**common, "test_set": "validation", **result.best_metrics})
        for name, dataset in task.tests.items():
            scores = task.scores(student, dataset, run_dir / f"predictions_{name}")
            rows.append({**common, "test_set": name, **scores})
        if main:
            student.save_pretrained(run_dir / "student")
            task.collate.texts.tokenizer.save_pretrained(run_dir / "student")
            if isinstance(task.collate, PatchCollator):
                task.collate.image_transform.save_pretrained(run_dir / "student")
        task.finish(student, run_dir)
        accelerator.free_memory()
    if main:
        left_out = {name: dataset.skipped for name, dataset in task.tests.items() if dataset.skipped}
        plain = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
        content = {"settings": plain, "split": task.split, "left_out_of_tests": left_out, "rows": rows}
        write_atomically(settings.run_dir / "results.json", json.dumps(content, indent=2) + "\n")
    return rows


@dataclass
class StudentInput:
    """What a student needs to read a task: its tokenizer and its eyes.

    settings: of the run. device: where a region backbone runs.
    """

    settings: FinetuneSettings
    device: torch.device | str = "cpu"
    kind: str = field(init=False)
    """Its model_type."""

    def __post_init__(self) -> None:
        # load_native itself says which weights are fresh
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.kind = AutoConfig.from_pretrained(self.settings.student).model_type

    @property
    def reads_regions(self) -> bool:
        return self.kind in REGION_STUDENTS

    def tokenizer(self) -> Any:
        """Of the student."""
        return AutoTokenizer.from_pretrained(self.settings.student)

    def image_transform(self) -> Any:
        """Of a student that reads pixels."""
        return AutoImageProcessor.from_pretrained(self.settings.student)

    def regions(self) -> RegionFeatures:
        """Of a student that reads regions.

        Raises ValueError if the settings name no backbone.
        """
        settings = self.settings
        if settings.regions is None:
            raise ValueError(
                f"student {settings.student!r} reads region features: name a backbone, such as --regions resnet50"
            )
        cache = settings.region_cache or settings.run_dir / "regions"
        return RegionFeatures(settings.regions, mode=settings.region_mode, cache=cache, device=self.device)

    def collator(self, texts: ExampleTexts, **options: Any) -> PatchCollator | RegionCollator:
        """The student's own; options: as for `PatchCollator`, if it reads pixels."""
        boxes = self.settings.teacher_boxes
        if not self.reads_regions:
            return PatchCollator(texts, self.image_transform(), teacher_boxes=boxes, **options)
        collate = RegionCollator(texts, self.regions(), model=self.kind, teacher_boxes=boxes)
        collate.regions.memory = REGION_MEMORY // (4 * collate.regions.dim * collate.max_regions)
        return collate

    def model_options(self, collate: PatchCollator | RegionCollator) -> dict[str, int | None]:
        """Options of `load_student` and `load_classifier`."""
        if isinstance(collate, RegionCollator):
            return {"visual_dim": collate.regions.dim}
        return {"max_text_tokens": self.settings.max_text_tokens if self.kind == "vilt" else None}
