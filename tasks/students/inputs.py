"""What a student needs to read a task: its tokenizer, its image transform or its region features."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.batches.region_features import RegionFeatures
from tasks.batches.texts import ExampleTexts
from tasks.settings import FinetuneSettings

REGION_MEMORY = 2**29
"""Bytes of region features that a process keeps; the others are read from the disk."""
REGION_STUDENTS = ("visual_bert", "lxmert")


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
        model: Literal["visual_bert", "lxmert"] = "lxmert" if self.kind == "lxmert" else "visual_bert"
        collate = RegionCollator(texts, self.regions(), model=model, teacher_boxes=boxes)
        collate.regions.memory = REGION_MEMORY // (4 * collate.regions.dim * collate.max_regions)
        return collate

    def model_options(self, collate: PatchCollator | RegionCollator) -> dict[str, int | None]:
        """Options of `load_student` and `load_classifier`."""
        if isinstance(collate, RegionCollator):
            return {"visual_dim": collate.regions.dim}
        return {"max_text_tokens": self.settings.max_text_tokens if self.kind == "vilt" else None}
