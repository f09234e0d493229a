"""Images and texts without labels of the task, for the distillation terms alone.

They are in a JSON-lines file with one pair in a line: {"image": its path, relative to the file, "text": a caption}. A
line may also hold "boxes" [[x1, y1, x2, y2], …], from a detector or a grid, with the image's "width" and "height".
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np

from cliptd.data.files.jsonl import JsonLines
from cliptd.data.files.tables import TableDataset, cached_table
from cliptd.data.images import ImageFile
from tasks.batches.proposals import Proposals, ProposedBoxes, parse_boxes

TABLE_VERSION = 1
FEATURES = datasets.Features(
    {
        "image": datasets.Value("string"),
        "text": datasets.Value("string"),
        "boxes": datasets.List(datasets.List(datasets.Value("float32"))),
        "width": datasets.Value("int64"),
        "height": datasets.Value("int64"),
        "where": datasets.Value("string"),
        "reason": datasets.Value("string"),
    }
)


@dataclass(frozen=True)
class UnlabelledExample(ProposedBoxes):
    """An image and a text about it."""

    image_key: str
    text: str
    image: ImageFile = field(repr=False)
    proposals: Proposals = field(repr=False, compare=False)
    label: None = None


class UnlabelledPairs(TableDataset):
    """A map-style, lazy dataset of `UnlabelledExample`.

    Args:
        on_bad_sample: "raise": fail at a bad line now, and at a bad image when it is asked for. "skip": look at every
            line and image now, skip bad pairs, list them in `skipped` and warn with their number.

    Raises:
        ValueError: a line is bad, or every pair is; the message names file and line.
        FileNotFoundError: the file or an image is missing.
    """

    def __init__(self, path: str | Path, *, on_bad_sample: Literal["raise", "skip"] = "raise") -> None:
        table = cached_table(_rows, (path,), FEATURES, version=TABLE_VERSION)
        super().__init__(Path(path), table, on_bad_sample=on_bad_sample)
        self.keep(None)
        if not len(self):
            raise ValueError(f"{path}: every pair is bad, the first: {self.skipped[0]}")

    def __getitem__(self, position: int) -> UnlabelledExample:
        row = self.row(position)
        image = ImageFile(self.name.parent / row["image"], row["where"], "paths are relative to the file")

        def boxes(key: str, image: ImageFile) -> tuple[np.ndarray, tuple[int, int]]:
            if row["boxes"] is None:
                return np.zeros((0, 4), np.float32), image.dimensions()
            return parse_boxes(row, row["where"])

        return UnlabelledExample(f"unlabelled/{row['image']}", row["text"], image, boxes)


def _rows(files: tuple[str]) -> Iterator[dict[str, Any]]:
    lines = JsonLines(files[0])
    if not len(lines):
        raise ValueError(f"{files[0]}: holds no pair; expected a line for each image and text")
    for index in range(len(lines)):
        row: dict[str, Any] = dict.fromkeys(FEATURES) | {"where": lines.where(index)}
        try:
            row |= _parse_pair(lines.raw(index), row["where"])
        except ValueError as error:
            row["reason"] = str(error)
        yield row


def _parse_pair(line: dict[str, Any], where: str) -> dict[str, Any]:
    for key in ("image", "text"):
        if not isinstance(line.get(key), str) or not line[key].strip():
            raise ValueError(f"{where}: {key} is {line.get(key)!r}, expected a text")
    pair = {"image": line["image"], "text": line["text"]}
    if "boxes" in line:
        boxes, (width, height) = parse_boxes(line, where)
        pair |= {"boxes": boxes.tolist(), "width": width, "height": height}
    return pair


class WithUnlabelled:
    """A dataset of pairs (labelled example, unlabelled example), as long as the longer of the two sets.

    Each pass goes once through the longer set and repeats the shorter one.
    """

    def __init__(self, labelled: Sequence[Any], unlabelled: Sequence[Any]) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return max(len(self.labelled), len(self.unlabelled))

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return self.labelled[index % len(self.labelled)], self.unlabelled[index % len(self.unlabelled)]


@dataclass
class CollateWithUnlabelled:
    """A collate that puts the batch of the unlabelled examples into the batch of the labelled ones."""

    labelled: Callable[[list], dict[str, Any]]
    """Makes a batch of labelled examples."""
    unlabelled: Callable[[list], dict[str, Any]] | None
    """Makes the batch under "unlabelled". None, for a method that distils nothing: skip the unlabelled examples."""

    def __call__(self, examples: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        batch = self.labelled([labelled for labelled, _ in examples])
        if self.unlabelled is not None:
            batch["unlabelled"] = self.unlabelled([unlabelled for _, unlabelled in examples])
        return batch
