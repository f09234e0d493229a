"""The choice of VCR's training items that are labelled or validate, and of the movies that are held out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cliptd.data.identity import identity_of_files
from cliptd.utils.options import shown_default
from tasks.labelled_split import LowShotSplit
from tasks.vcr.names import VCR_CLASSES

if TYPE_CHECKING:  # the methods import it when they open files: a command line is parsed without torch
    from tasks.vcr.data import VcrDataset


@dataclass(kw_only=True)
class VcrSplit(LowShotSplit):
    """The data of an experiment on VCR's train.jsonl, val.jsonl and vcr1images/."""

    tasks: Literal["both", "q_to_a", "qa_to_r"] = "both"
    """Train one model for answers and rationales, or for one of the two."""
    hold_out_movies: Annotated[str | None, shown_default("none")] = None
    """Train without the movies whose name begins so, and test on them, which shows a shift of the domain."""
    known_classes: bool = True
    """Refuse object labels that are not among VCR's 80 classes."""

    @property
    def dataset_options(self) -> dict[str, Any]:
        """Return the options with which annotation files are read."""
        classes = VCR_CLASSES if self.known_classes else None
        return {"classes": classes, "on_bad_sample": self.on_bad_sample}

    def training_files(self) -> list[Path]:
        return [_checked_root(self) / "train.jsonl"]

    def training_items(self) -> "VcrDataset":
        """Return all training items, without held-out movies and bad samples."""
        from tasks.vcr.data import VcrDataset
        from tasks.vcr.shift import hold_out_movies

        items = VcrDataset.from_root(_checked_root(self), "train", **self.dataset_options)
        if self.hold_out_movies:
            kept, _ = hold_out_movies(items.movies(), self.hold_out_movies)
            items.indices = [items.indices[k] for k in kept]
        return items

    def held_out_items(self) -> "VcrDataset":
        """Return the training file's items of the held-out movies, which are a test set."""
        from tasks.vcr.data import VcrDataset
        from tasks.vcr.shift import hold_out_movies

        items = VcrDataset.from_root(self.data_root, "train", **self.dataset_options)
        _, held = hold_out_movies(items.movies(), self.hold_out_movies)
        items.indices = [items.indices[k] for k in held]
        return items


def _checked_root(split: VcrSplit) -> Path:
    if split.data_root is None:
        raise ValueError("data_root is None; give the folder of VCR's train.jsonl and vcr1images/")
    return split.data_root


def training_sets(split: VcrSplit, seed: int) -> "tuple[VcrDataset, VcrDataset, dict[str, Any]]":
    """Return the labelled training set, the validation set and the description of the split.

    No image is in both sets. See `LowShotSplit.draw`.
    """
    from tasks.vcr.data import VcrDataset

    everything = split.training_items()
    labelled, held_out, description = split.draw(
        everything.column("annot_id"), everything.column("img_fn"), everything.column("answer_label"), seed
    )
    options = {**split.dataset_options, "on_bad_sample": "raise"}  # bad ones were skipped above
    lines = [everything.indices[k] for k in labelled]
    held_lines = [everything.indices[k] for k in held_out]
    training_set = VcrDataset.from_root(split.data_root, "train", tasks=split.tasks, indices=lines, **options)
    validation_set = VcrDataset.from_root(split.data_root, "train", indices=held_lines, **options)
    description |= {
        "training_files": identity_of_files(split.training_files()),
        "bad_samples_left_out": everything.skipped,
    }
    return training_set, validation_set, description
