"""Which of VCR's training items are labelled, which validate, and which movies are held out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cliptd.data.splits import holdout_split, low_shot_split
from tasks.vcr.data import VcrDataset
from tasks.vcr.names import VCR_CLASSES
from tasks.vcr.shift import hold_out_movies


@dataclass
class VcrSplit:
    """The data of an experiment: every script that takes these takes the same items."""

    data_root: Path | None = None
    """Folder with VCR's train.jsonl, val.jsonl and vcr1images/. None: the embedded benchmark, iconworld."""
    tasks: Literal["both", "q_to_a", "qa_to_r"] = "both"
    """One model for answers and rationales, or for one of them."""
    fraction: float | None = None
    """Share of the training items that are labelled."""
    items: int | None = None
    """Number of training items that are labelled, instead of a share."""
    validation_items: int = 1000
    """Training items, of images of their own, that choose the best step."""
    hold_out_movies: str | None = None
    """Train without the movies of this prefix and test on them: domain shift by source."""
    known_classes: bool = True
    """Object labels must be VCR's 80 classes; false allows any."""
    on_bad_sample: Literal["raise", "skip"] = "raise"
    """Stop at a bad item, or leave it out, counted and listed."""

    def __post_init__(self):
        if self.fraction is not None and self.items is not None:
            raise ValueError("give fraction or items, not both")

    @property
    def dataset_options(self) -> dict[str, Any]:
        """How annotation files are read."""
        classes = VCR_CLASSES if self.known_classes else None
        return {"classes": classes, "on_bad_sample": self.on_bad_sample}

    def training_items(self) -> VcrDataset:
        """All training items, without held-out movies and bad samples."""
        if self.data_root is None:
            raise ValueError("data_root is None; give the folder of VCR's train.jsonl and vcr1images/")
        items = VcrDataset.from_root(self.data_root, "train", **self.dataset_options)
        if self.hold_out_movies:
            kept, _ = hold_out_movies(items.column("movie"), self.hold_out_movies)
            items.indices = [items.indices[k] for k in kept]
        return items

    def held_out_items(self) -> VcrDataset:
        """The training file's items of the held-out movies: a test set."""
        items = VcrDataset.from_root(self.data_root, "train", **self.dataset_options)
        _, held = hold_out_movies(items.column("movie"), self.hold_out_movies)
        items.indices = [items.indices[k] for k in held]
        return items


def training_sets(split: VcrSplit, seed: int) -> tuple[VcrDataset, VcrDataset, dict[str, Any]]:
    """(labelled training set, validation set, description of the split); no image is in both.

    The seed draws the labelled items; validation is the same for every seed and number of labels, as a test set
    is.
    """
    everything = split.training_items()
    ids, images = everything.column("annot_id"), everything.column("img_fn")
    rest, held_out = holdout_split(ids, images, count=split.validation_items, seed=0)
    labels = everything.column("answer_label")
    fraction = 1.0 if split.fraction is None else split.fraction
    if split.items is not None:
        if not 0 < split.items <= len(rest):
            raise ValueError(f"items is {split.items}, expected 1 to {len(rest)}, the training items")
        fraction = split.items / len(rest)
    chosen = low_shot_split(
        [ids[i] for i in rest.indices], [labels[i] for i in rest.indices], fraction=fraction, seed=seed
    )
    lines = [everything.indices[rest.indices[k]] for k in chosen.indices]
    held_lines = [everything.indices[i] for i in held_out.indices]
    options = {**split.dataset_options, "on_bad_sample": "raise"}  # bad ones were left out above
    training_set = VcrDataset.from_root(split.data_root, "train", tasks=split.tasks, indices=lines, **options)
    validation_set = VcrDataset.from_root(split.data_root, "train", indices=held_lines, **options)
    description = {
        "labelled_items": len(lines),
        "training_hash": chosen.hash,
        "validation_items": len(held_lines),
        "validation_hash": held_out.hash,
        "bad_samples_left_out": everything.skipped,
    }
    return training_set, validation_set, description
