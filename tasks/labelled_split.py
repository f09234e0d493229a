"""The choice of the training items that are labelled and of those that validate, for all tasks."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cliptd.data.splits import holdout_split, low_shot_split
from cliptd.utils.options import shown_default
from tasks.batches.proposals import GridProposals, Proposals, read_proposals


@dataclass(kw_only=True)
class LowShotSplit(ABC):
    """The data of an experiment. The same settings choose the same items in every command.

    Raises:
        ValueError: fraction and items are both given, or the fraction is not a share.
    """

    data_root: Annotated[Path | None, shown_default("the embedded benchmark")] = None
    """Folder with the task's official files."""
    fraction: Annotated[float | None, shown_default("all items")] = None
    """Share of the training items that are labelled."""
    items: Annotated[int | None, shown_default("all items")] = None
    """Number of training items that are labelled, instead of a share."""
    validation_items: Annotated[int | None, shown_default("1000, at most a fifth")] = None
    """Number of training items that are not trained on but choose the best step. They have images of their own."""
    on_bad_sample: Literal["raise", "skip"] = "raise"
    """"raise": stop at a bad item. "skip": go on without it, and count and list such items. Then every process looks at
    every image first, which takes 2 to 20 milliseconds each."""

    def __post_init__(self) -> None:
        if self.fraction is not None and self.items is not None:
            raise ValueError("give fraction or items, not both")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(
                f"fraction is {self.fraction}, expected a share above 0 and at most 1, such as 0.01"
            )

    @property
    def has_boxes(self) -> bool:
        """Return whether the items' images have boxes."""
        return True

    @abstractmethod
    def training_files(self) -> list[Path]:
        """Return the annotation files that the training items are read from. Raises ValueError without data_root."""

    def draw(
        self, ids: Sequence[Any], images: Sequence[Hashable], strata: Sequence[Hashable], seed: int
    ) -> tuple[list[int], list[int], dict[str, Any]]:
        """Draw the labelled and the validation items. No image is in both.

        The seed draws the labelled items. Validation is the same for every seed and number of labels, as a test set is.

        Args:
            ids: the name of each training item.
            images: the image of each.
            strata: the stratum of each, which keeps its share among the labelled items.

        Returns:
            (labelled, validation, description), the first two as indices into the training items.

        Raises:
            ValueError: there are too few items, or one has no label.
        """
        ids = [str(name) for name in ids]
        without = [name for name, stratum in zip(ids, strata, strict=True) if stratum is None]
        if without:
            raise ValueError(
                f"{len(without)} training items have no label, the first is {without[0]}; remove them from the "
                "training file (items without label can be given as unlabelled)"
            )
        rest, held_out = holdout_split(ids, images, count=self._validation_count(images), seed=0)
        fraction = 1.0 if self.fraction is None else self.fraction
        if self.items is not None:
            if not 0 < self.items <= len(rest):
                raise ValueError(
                    f"items is {self.items}, expected 1 to {len(rest)}, the training items beside {len(held_out)} for "
                    "validation (validation_items)"
                )
            fraction = self.items / len(rest)
        chosen = low_shot_split(
            [ids[i] for i in rest.indices], [strata[i] for i in rest.indices], fraction=fraction, seed=seed
        )
        description = {
            "labelled_items": len(chosen),
            "training_hash": chosen.hash,
            "validation_items": len(held_out),
            "validation_hash": held_out.hash,
        }
        return [rest.indices[k] for k in chosen.indices], held_out.indices, description

    def _validation_count(self, images: Sequence[Hashable]) -> int:
        sizes = Counter(images)
        if len(sizes) < 2:
            raise ValueError(
                f"{len(images)} training items of {len(sizes)} images; expected two images at least, as validation has "
                "its own"
            )
        largest = max(sizes.values())
        most = len(images) - largest  # then at least one image is left, whichever it is
        if self.validation_items is None:
            return max(1, min(1000, len(images) // 5, most))
        if not 0 < self.validation_items <= most:
            raise ValueError(
                f"validation_items is {self.validation_items}, expected 1 to {most}: of {len(images)} training items "
                f"whole images go to validation, and an image with its items, up to {largest}, must be left to train on"
            )
        return self.validation_items


@dataclass(kw_only=True)
class LowShotSplitWithProposals(LowShotSplit):
    """The data of a task whose files have no boxes, so that boxes can only be proposed."""

    proposals: Annotated[Path | None, shown_default("none")] = None
    """A jsonl file with the boxes of every image, as a detector proposed them."""
    grid: int = 0
    """Without proposals, cut the image into this many cells a side, which are its boxes. 0: no boxes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grid < 0:
            raise ValueError(f"grid is {self.grid}, expected the number of cells a side, or 0 for no boxes")

    @property
    def has_boxes(self) -> bool:
        return self.proposals is not None or self.grid > 0

    @property
    def proposed(self) -> Proposals:
        """Return the source of the boxes. Raises as `FileProposals`."""
        return GridProposals(self.grid) if self.proposals is None else read_proposals(self.proposals)
