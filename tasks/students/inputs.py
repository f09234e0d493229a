"""The tools by which a student reads a task: its tokenizer, and its image transform or its region features."""

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
"""Bytes of region features that a process keeps in memory. It reads the others from the disk."""
REGION_STUDENTS = ("visual_bert", "lxmert")


@dataclass
class StudentInput:
    """The tools by which a student reads a task: its tokenizer, and its image transform or its region features."""

    settings: FinetuneSettings
    """Settings of the run."""
    device: torch.device | str = "cpu"
    """Device of a region backbone."""
    kind: str = field(init=False)
    """The student's model_type."""

    def __post_init__(self) -> None:
        # Hide transformers' own list of fresh weights, because load_native names them.
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        name = self.settings.student
        try:
            self.kind = AutoConfig.from_pretrained(name).model_type
        except (OSError, ValueError) as error:
            raise ValueError(
                f"student is {name!r}, expected the folder of a model or the id of one on the Hugging Face Hub: {error}"
            ) from error

    @property
    def reads_regions(self) -> bool:
        """Return whether the student reads region features."""
        return self.kind in REGION_STUDENTS

    def tokenizer(self) -> Any:
        """Return the student's tokenizer."""
        return AutoTokenizer.from_pretrained(self.settings.student)

    def image_transform(self) -> Any:
        """Return the image processor of a student that reads pixels."""
        return AutoImageProcessor.from_pretrained(self.settings.student)

    def regions(self) -> RegionFeatures:
        """Return the region features of a student that reads regions.

        Raises:
            ValueError: the settings name no backbone.
        """
        settings = self.settings
        if settings.regions is None:
            raise ValueError(
                f"student {settings.student!r} reads region features, and regions is None; name a "
                "backbone, such as --regions resnet50"
            )
        cache = settings.region_cache or settings.run_dir / "regions"
        return RegionFeatures(settings.regions, mode=settings.region_mode, cache=cache, device=self.device)

    def collator(self, texts: ExampleTexts, **options: Any) -> PatchCollator | RegionCollator:
        """Return the student's collator. options: as for `PatchCollator`, for a student that reads pixels."""
        boxes = self.settings.teacher_boxes
        if not self.reads_regions:
            return PatchCollator(texts, self.image_transform(), teacher_boxes=boxes, **options)
        model: Literal["visual_bert", "lxmert"] = "lxmert" if self.kind == "lxmert" else "visual_bert"
        collate = RegionCollator(texts, self.regions(), model=model, teacher_boxes=boxes)
        collate.regions.memory = REGION_MEMORY // (4 * collate.regions.dim * collate.max_regions)
        return collate

    def model_options(self, collate: PatchCollator | RegionCollator) -> dict[str, int | None]:
        """Return options for `load_student` and `load_classifier`."""
        if isinstance(collate, RegionCollator):
            return {"visual_dim": collate.regions.dim}
        return {"max_text_tokens": self.settings.max_text_tokens if self.kind == "vilt" else None}
