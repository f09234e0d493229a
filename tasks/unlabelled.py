"""Images and texts without labels of the task, for the distillation terms alone.

A JSON-lines file, a line a pair: {"image": its path, relative to the file, "text": a caption} and, as a detector or a
grid gives them, "boxes" [[x1, y1, x2, y2], …] with the image's "width" and "height".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cliptd.data.images import ImageFile
from cliptd.data.jsonl import JsonLines
from tasks.proposals import Proposals, ProposedBoxes, parse_boxes


@dataclass(frozen=True)
class UnlabelledExample(ProposedBoxes):
    """An image and a text about it."""

    image_key: str
    text: str
    image: ImageFile = field(repr=False)
    proposals: Proposals = field(repr=False, compare=False)
    label: None = None


class UnlabelledPairs:
    """Map-style, lazy dataset of `UnlabelledExample`.

    Raises ValueError and FileNotFoundError that name file and line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lines = JsonLines(path)
        if not len(self.lines):
            raise ValueError(f"{path}: holds no pair; expected a line an image and text")

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> UnlabelledExample:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        line, where = self.lines.raw(index), self.lines.where(index)
        for key in ("image", "text"):
            if not isinstance(line.get(key), str) or not line[key].strip():
                raise ValueError(f"{where}: {key} is {line.get(key)!r}, expected a text")
        image = ImageFile(self.path.parent / line["image"], where, "paths are relative to the file")

        def boxes(key: str, image: ImageFile) -> tuple[np.ndarray, tuple[int, int]]:
            if "boxes" in line:
                return parse_boxes(line, where)
            return np.zeros((0, 4), np.float32), image.dimensions()

        return UnlabelledExample(f"unlabelled/{line['image']}", line["text"], image, boxes)


class WithUnlabelled:
    """Labelled and unlabelled examples side by side, (labelled, unlabelled), as long as the longer of the two.

    Each pass goes once through the longer set; the shorter one is repeated in turn.
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
    """The labelled examples' batch, and under "unlabelled" that of the others.

    labelled, unlabelled: from examples to a batch. Without `unlabelled` (a method that distils nothing) they are left
    out.
    """

    labelled: Callable[[list], dict[str, Any]]
    unlabelled: Callable[[list], dict[str, Any]] | None

    def __call__(self, examples: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        batch = self.labelled([labelled for labelled, _ in examples])
        if self.unlabelled is not None:
            batch["unlabelled"] = self.unlabelled([unlabelled for _, unlabelled in examples])
        return batch
