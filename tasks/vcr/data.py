"""VCR v1 as it is downloaded: a map-style, lazy dataset of four-way choices.

    images_root/<img_fn>, images_root/<metadata_fn>; a data root holds {train,val,test}.jsonl and vcr1images/.

Nothing is read twice and nothing is loaded before it is asked for: annotations by byte offset, metadata and
images by the example that needs them.
"""

import json
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from cliptd.data.files.jsonl import JsonLines
from cliptd.data.images import ImageFile
from tasks.vcr.items import VcrItem, movie_of, parse_item
from tasks.vcr.names import VCR_CLASSES, mentioned_objects

TASKS = {"both": ("q_to_a", "qa_to_r"), "q_to_a": ("q_to_a",), "qa_to_r": ("qa_to_r",)}
BOX_TOLERANCE = 1.0  # pixels a box may stand outside its image before it is an error


@dataclass(frozen=True)
class VcrExample:
    """One four-way choice: the answers to a question, or the rationales of an answer.

    boxes: float32 (objects, 4), x1 y1 x2 y2 in pixels, inside the image of `size` (width, height).
    given: for "qa_to_r", index of the answer that is taken as true (the right one unless asked otherwise).
    label: index of the right choice; None if unknown (test files) or if `given` is not the right answer.
    """

    item: VcrItem
    task: Literal["q_to_a", "qa_to_r"]
    given: int | None
    label: int | None
    boxes: np.ndarray = field(repr=False)
    size: tuple[int, int]
    image: ImageFile = field(repr=False)

    @property
    def context(self) -> list[list]:
        """Token lists read before the choice: the question, and for "qa_to_r" the given answer."""
        given = [] if self.given is None else [self.item.answer_choices[self.given]]
        return [self.item.question, *given]

    @property
    def image_key(self) -> str:
        """The same for every question about the image."""
        return self.item.img_fn

    @property
    def mentioned(self) -> list[int]:
        """The objects that the context or a choice names."""
        return mentioned_objects(*self.context, *self.choices)

    @property
    def choices(self) -> list[list]:
        return self.item.answer_choices if self.task == "q_to_a" else self.item.rationale_choices


class VcrDataset:
    """Map-style dataset: `len` = items x subtasks, example i = subtask i % S of item i // S.

    annotations: a VCR jsonl file.
    images_root: folder of the images and their metadata (`vcr1images`).
    tasks: "q_to_a", "qa_to_r" (given the right answer) or "both".
    indices: keep these lines only, in this order (low-shot splits, held-out movies).
    classes: labels that `objects` may hold; None allows any (data that is not VCR's).
    check_boxes: boxes more than one pixel outside the image, or without area, are an error.
    clip_boxes: such boxes are clipped to the image instead.
    on_bad_sample: "raise" at the first bad sample when it is asked for, or "skip": look at every kept line,
        its metadata and its image now, leave bad ones out, list them in `skipped` and warn with their number.

    Raises ValueError and FileNotFoundError that say file:line, annot_id, what was found, what was expected,
    the fix.
    """

    def __init__(
        self,
        annotations: str | Path,
        images_root: str | Path,
        *,
        tasks: Literal["both", "q_to_a", "qa_to_r"] = "both",
        indices: Sequence[int] | None = None,
        classes: Collection[str] | None = VCR_CLASSES,
        check_boxes: bool = True,
        clip_boxes: bool = False,
        on_bad_sample: Literal["raise", "skip"] = "raise",
    ) -> None:
        if tasks not in TASKS:
            raise ValueError(f"tasks is {tasks!r}; choose one of {sorted(TASKS)}")
        if on_bad_sample not in ("raise", "skip"):
            raise ValueError(f"on_bad_sample is {on_bad_sample!r}; choose 'raise' or 'skip'")
        self.images_root = Path(images_root)
        if not self.images_root.is_dir():
            raise FileNotFoundError(
                f"images_root {self.images_root} is not a folder; expected VCR's vcr1images/"
            )
        self.subtasks = TASKS[tasks]
        self.classes, self.check_boxes, self.clip_boxes = classes, check_boxes, clip_boxes
        self.lines = JsonLines(annotations)
        self.indices = list(range(len(self.lines)) if indices is None else indices)
        for index in self.indices:
            if not 0 <= index < len(self.lines):
                raise ValueError(
                    f"indices holds {index}, but {annotations} has {len(self.lines)} lines (0-based)"
                )
        self.skipped: list[str] = []
        if on_bad_sample == "skip":
            self._leave_out_bad_samples()

    @classmethod
    def from_root(cls, data_root: str | Path, split: str, **options) -> "VcrDataset":
        """The dataset of `data_root/{split}.jsonl` and `data_root/vcr1images/`; options as for the class."""
        annotations = Path(data_root) / f"{split}.jsonl"
        if not annotations.is_file():
            raise FileNotFoundError(
                f"{annotations} does not exist; expected {{train,val,test}}.jsonl and vcr1images/ in "
                f"{data_root} (https://visualcommonsense.com/download)"
            )
        return cls(annotations, Path(data_root) / "vcr1images", **options)

    def __len__(self) -> int:
        return len(self.indices) * len(self.subtasks)

    @property
    def num_items(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> VcrExample:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return self.example(index // len(self.subtasks), self.subtasks[index % len(self.subtasks)])

    def item(self, position: int) -> VcrItem:
        """The checked item at a position among the kept lines."""
        index = self.indices[position]
        return parse_item(self.lines[index], self.lines.where(index), classes=self.classes)

    def items(self) -> Iterator[VcrItem]:
        """Every kept item, streamed, without touching metadata or images."""
        return (self.item(position) for position in range(self.num_items))

    def column(self, key: str) -> list:
        """A raw key of every kept line, streamed (None where a line lacks it): ids and strata for splits."""
        return [self.lines[index].get(key) for index in self.indices]

    def movies(self) -> list[str]:
        """The movie of every kept line; raises ValueError naming file and line for one that has none."""
        return [movie_of(self.lines[index], self.lines.where(index)) for index in self.indices]

    def example(
        self, position: int, task: Literal["q_to_a", "qa_to_r"], given: int | None = None
    ) -> VcrExample:
        """One choice of the item at a position.

        given: for "qa_to_r", the answer taken as true; default the right one.
        Raises ValueError if the right answer is needed and the file has no labels.
        """
        item = self.item(position)
        label = item.answer_label
        if task == "qa_to_r":
            label = item.rationale_label if given is None or given == item.answer_label else None
            given = item.answer_label if given is None else given
            if given is None:
                raise ValueError(
                    f"{item.where}: no answer_label, and QA→R is asked given the right answer; use "
                    "tasks='q_to_a', or tasks.vcr.predict for all sixteen conditioned rationales of a "
                    "test file"
                )
        boxes, size = self._boxes(item)
        path, hint = self.images_root / item.img_fn, "unpack vcr1images.zip whole"
        image = ImageFile(path, item.where, hint, size)
        return VcrExample(item, task, given, label, boxes, size, image)

    def _boxes(self, item: VcrItem) -> tuple[np.ndarray, tuple[int, int]]:
        path = self.images_root / item.metadata_fn
        try:
            boxes, width, height = _read_metadata(path)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{item.where}: metadata {path} is missing; unpack vcr1images.zip whole into "
                f"{self.images_root}"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{item.where}: metadata {path} is unreadable ({error}); expected JSON with boxes "
                "[[x1, y1, x2, y2, score], …], width and height; unpack it again"
            ) from error
        if len(boxes) != len(item.objects):
            raise ValueError(
                f"{item.where}: metadata {path} has {len(boxes)} boxes, but the item has "
                f"{len(item.objects)} objects; annotations and metadata must be of the same release"
            )
        limit = np.array([width, height, width, height], dtype=np.float32)
        inside = boxes.clip(0, limit)
        if self.check_boxes and not self.clip_boxes:
            far = (np.abs(inside - boxes) > BOX_TOLERANCE).any(1) | (inside[:, 2:] <= inside[:, :2]).any(1)
            for index in np.flatnonzero(far)[:1]:
                raise ValueError(
                    f"{item.where}: box {index} ({item.objects[index]}) is {boxes[index].tolist()}, "
                    f"outside the image of {width} x {height} pixels or without area (tolerance "
                    f"{BOX_TOLERANCE:g} pixel); mend {path}, or pass clip_boxes=True"
                )
        low = np.minimum(
            inside[:, :2], np.maximum(limit[:2] - 1, 0)
        )  # at least one pixel is left of every box
        return np.concatenate([low, np.maximum(inside[:, 2:], low + 1)], axis=1), (width, height)

    def _leave_out_bad_samples(self) -> None:
        good, images = [], {}
        for position, index in enumerate(self.indices):
            try:
                example = self.example(position, "q_to_a")
                name = example.item.img_fn
                if name not in images:
                    images[name] = example.image.reason()
                if images[name]:
                    raise ValueError(f"{example.item.where}: {images[name]}")
                good.append(index)
            except (ValueError, OSError) as error:
                self.skipped.append(str(error))
        self.indices = good
        if self.skipped:
            warnings.warn(
                f"{self.lines.path}: {len(self.skipped)} samples skipped, {len(good)} kept; the first: "
                f"{self.skipped[0]} (all of them: dataset.skipped)",
                stacklevel=3,
            )


@lru_cache(maxsize=4096)
def _read_metadata(path: Path) -> tuple[np.ndarray, int, int]:
    with open(path, encoding="utf-8") as file:
        metadata = json.load(file)
    boxes = np.asarray(metadata["boxes"], dtype=np.float32).reshape(len(metadata["boxes"]), -1)
    if (len(boxes) and boxes.shape[1] < 4) or not np.isfinite(boxes).all():
        raise ValueError(f"boxes are {metadata['boxes']!r}")
    boxes = boxes[:, :4] if len(boxes) else np.zeros((0, 4), np.float32)
    boxes.setflags(write=False)
    return boxes, int(metadata["width"]), int(metadata["height"])
