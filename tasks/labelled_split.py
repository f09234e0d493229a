"""Which training items are labelled and which validate, for all tasks."""

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
    """The data of an experiment: every script that takes these takes the same items."""

    data_root: Annotated[Path | None, shown_default("the embedded benchmark")] = None
    """Folder with the task's official files. None: the embedded benchmark, iconworld."""
    fraction: Annotated[float | None, shown_default("all items")] = None
    """Share of the training items that are labelled."""
    items: Annotated[int | None, shown_default("all items")] = None
    """Number of training items that are labelled, instead of a share."""
    validation_items: Annotated[int | None, shown_default("1000, at most a fifth")] = None
    """Training items, of images of their own, that choose the best step. None: 1000, at most a fifth."""
    on_bad_sample: Literal["raise", "skip"] = "raise"
    """Stop at a bad item, or leave it out, counted and listed: every process then first looks at every image, 2 to 20
    milliseconds each."""

    def __post_init__(self):
        if self.fraction is not None and self.items is not None:
            raise ValueError("give fraction or items, not both")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(
                f"fraction is {self.fraction}, expected a share above 0 and at most 1, such as 0.01"
            )

    @property
    def has_boxes(self) -> bool:
        """Whether the items' images have boxes."""
        return True

    @abstractmethod
    def training_files(self) -> list[Path]:
        """Return the annotation files that the training items are read from; raises ValueError without data_root."""

    def draw(
        self, ids: Sequence[Any], images: Sequence[Hashable], strata: Sequence[Hashable], seed: int
    ) -> tuple[list[int], list[int], dict[str, Any]]:
        """(labelled, validation, description): indices into the training items; no image is in both.

        The seed draws the labelled items; validation is the same for every seed and number of labels, as a test set is.

        ids, images, strata: of all training items; every stratum keeps its share among the labelled ones.
        Raises ValueError if there are too few items, or any without label.
        """
        ids = [str(name) for name in ids]
        without = [name for name, stratum in zip(ids, strata, strict=True) if stratum is None]
        if without:
            raise ValueError(
                f"{len(without)} training items have no label, the first is {without[0]}; leave them out of the "
                "training file (what has no label can be given as unlabelled)"
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
        most = len(images) - largest  # one image at least is left, whichever it is
        if self.validation_items is None:
            return max(1, min(1000, len(images) // 5, most))
        if not 0 < self.validation_items <= most:
            raise ValueError(
                f"validation_items is {self.validation_items}, expected 1 to {most}: of {len(images)} training items "
                f"whole images go to validation, and one with its items, up to {largest}, must be left to train on"
            )
        return self.validation_items


@dataclass(kw_only=True)
class LowShotSplitWithProposals(LowShotSplit):
    """The same for a task whose files have no boxes: they are proposed, if anything."""

    proposals: Annotated[Path | None, shown_default("none")] = None
    """jsonl with the boxes of every image, as a detector proposed them."""
    grid: int = 0
    """Without proposals: the image is cut into this many cells a side, which are its boxes; 0: no boxes."""

    def __post_init__(self):
        super().__post_init__()
        if self.grid < 0:
            raise ValueError(f"grid is {self.grid}, expected the cells a side, or 0 for none")

    @property
    def has_boxes(self) -> bool:
        return self.proposals is not None or self.grid > 0

    @property
    def proposed(self) -> Proposals:
        """Whence the boxes come; raises as `FileProposals`."""
        return GridProposals(self.grid) if self.proposals is None else read_proposals(self.proposals)
