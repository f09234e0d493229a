"""Boxes for images whose data set has none: a detector's proposals, or the cells of a grid (arXiv 2001.03615)."""

import json
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cliptd.data.files.cache import size_and_date
from cliptd.data.files.jsonl import JsonLines
from cliptd.data.images import ImageFile

Proposals = Callable[[str, ImageFile], tuple[np.ndarray, tuple[int, int]]]
"""From (image key, image) to float32 boxes (R, 4), x1 y1 x2 y2 in pixels, and the image's (width, height)."""


class ProposedBoxes:
    """An example whose boxes are proposed, as collators read it (`tasks.batches.example.Example`).

    Subclasses give `image_key`, `image` and `proposals`.
    """

    image_key: str
    image: ImageFile
    proposals: Proposals
    mentioned = ()

    @cached_property
    def _proposed(self) -> tuple[np.ndarray, tuple[int, int]]:
        return self.proposals(self.image_key, self.image)

    @property
    def boxes(self) -> np.ndarray:
        """Return (R, 4) boxes in pixels."""
        return self._proposed[0]

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) of the image."""
        return self._proposed[1]


class GridProposals:
    """The cells of a grid, row by row. side: number of cells in a row and in a column. 0: no boxes."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, key: str, image: ImageFile) -> tuple[np.ndarray, tuple[int, int]]:
        """Return boxes and size, see `Proposals`. Only the head of the image file is read."""
        width, height = _dimensions(image)
        edges = np.linspace(0, 1, self.side + 1, dtype=np.float32)
        cells = [
            (edges[x] * width, edges[y] * height, edges[x + 1] * width, edges[y + 1] * height)
            for y in range(self.side)
            for x in range(self.side)
        ]
        return np.array(cells, dtype=np.float32).reshape(-1, 4), (width, height)


class FileProposals:
    """Boxes of a jsonl file: a line is {"image": its file name, "width", "height", "boxes": [[x1, y1, x2, y2], …]}.

    Raises:
        ValueError: a line has no image or an image that another line has; the message names file and line.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.lines = JsonLines(path)
        self._line_of: dict[str, int] = {}
        for index in range(len(self.lines)):
            name = self.lines.raw(index).get("image")
            if not isinstance(name, str) or name in self._line_of:
                found = "more than once" if name in self._line_of else "no file name"
                raise ValueError(
                    f"{self.lines.where(index)}: image is {name!r}, {found}; expected one line for each image"
                )
            self._line_of[name] = index

    def __call__(self, key: str, image: ImageFile) -> tuple[np.ndarray, tuple[int, int]]:
        """Return boxes and size, see `Proposals`. The image is not opened.

        Raises:
            ValueError: the image has no line, or its boxes are unreadable.
        """
        if key not in self._line_of:
            raise ValueError(
                f"{image.where}: {self.lines.path} has no boxes of {key}; expected a line for each image"
            )
        index = self._line_of[key]
        return parse_boxes(self.lines.raw(index), self.lines.where(index))


def read_proposals(path: Path) -> FileProposals:
    """Return the `FileProposals` of a file, which a process reads once, and again if the file changed."""
    return _read_proposals(path, size_and_date(path))


@lru_cache(maxsize=4)
def _read_proposals(path: Path, size_and_date: tuple[int, int]) -> FileProposals:
    return FileProposals(path)


def parse_boxes(line: dict[str, Any], where: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Return boxes (R, 4) and (width, height) of a line.

    Raises:
        ValueError: they are unreadable or outside the image; the message begins with `where`.
    """
    try:
        boxes = np.array(line["boxes"], dtype=np.float32).reshape(len(line["boxes"]), 4)
        size = int(line["width"]), int(line["height"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: unreadable ({error!r}); expected image, width, height and boxes [[x1, y1, x2, y2], …]"
        ) from error
    outside = (boxes < -1) | (boxes > np.array([*size, *size]) + 1)
    bad = outside.any(1) | (boxes[:, 2:] <= boxes[:, :2]).any(1) | ~np.isfinite(boxes).all(1)
    if bad.any():
        raise ValueError(
            f"{where}: box {boxes[bad][0].tolist()} is outside the image of {size[0]} x {size[1]} pixels or "
            "without area; expected x1 y1 x2 y2 in pixels"
        )
    return boxes, size


def write_proposals(path: Path, rows: list[tuple[str, tuple[int, int], np.ndarray]]) -> None:
    """Write the file that `FileProposals` reads. rows: (image name, (width, height), boxes (R, 4))."""
    with open(path, "w", encoding="utf-8") as file:
        for name, (width, height), boxes in rows:
            line = {"image": name, "width": width, "height": height, "boxes": np.asarray(boxes).tolist()}
            file.write(json.dumps(line) + "\n")


@lru_cache(maxsize=4096)
def _dimensions(image: ImageFile) -> tuple[int, int]:
    return image.dimensions()
