"""SNLI-VE as it is downloaded: a map-style, lazy dataset of an image and a hypothesis about it.

A data root holds snli_ve_{train,dev,test}.jsonl and flickr30k_images/<id>.jpg. The caption (`sentence1`) is not an
input. About 9 % of audited labels are wrong, mostly neutral ones (arXiv 2004.03744); corrected labels can be given.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np

from cliptd.data.files.jsonl import JsonLines
from cliptd.data.files.tables import TableDataset, cached_table
from cliptd.data.files.text_files import csv_columns, csv_rows
from cliptd.data.images import ImageFile
from tasks.batches.proposals import GridProposals, Proposals, ProposedBoxes
from tasks.snli_ve.labels import LABELS, NO_LABEL

IMAGE_ID_KEYS = ("Flickr30K_ID", "Flikr30kID", "Flickr30kID")
"""The three spellings in the wild."""
IMAGES = "flickr30k_images"
TABLE_VERSION = 1
FEATURES = datasets.Features(
    {
        "pair_id": datasets.Value("string"),
        "image_id": datasets.Value("string"),
        "hypothesis": datasets.Value("string"),
        "label": datasets.Value("string"),
        "where": datasets.Value("string"),
        "reason": datasets.Value("string"),
    }
)


@dataclass(frozen=True)
class SnliVeExample(ProposedBoxes):
    """Does the image entail the hypothesis?

    label: index into `LABELS`; None in files without gold labels.
    """

    pair_id: str
    image_key: str
    hypothesis: str
    label: int | None
    image: ImageFile = field(repr=False)
    proposals: Proposals = field(repr=False, compare=False)


class SnliVeDataset(TableDataset):
    """Map-style dataset of `SnliVeExample`.

    annotations: an SNLI-VE jsonl. images_root: folder of Flickr30K's images.
    corrected_labels: CSV or TSV with the columns pairID and gold_label (or label), such as e-SNLI-VE's: its labels take
        the place of the file's; `corrected` counts those that differ.
    proposals: gives the boxes of an image; default none.
    indices: keep these pairs only, in this order; numbers among the pairs with a label.
    on_bad_sample: "raise" at a bad line now and at an image that is missing or corrupt when it is asked for, or "skip":
        look at every line and image now, leave bad pairs out, list them in `skipped` and warn with their number.

    Pairs with the label "-" are left out and counted in `without_label`.

    Raises ValueError and FileNotFoundError that name file and line, what was found, what was expected.
    """

    def __init__(
        self,
        annotations: str | Path,
        images_root: str | Path,
        *,
        corrected_labels: str | Path | None = None,
        proposals: Proposals | None = None,
        indices: Sequence[int] | None = None,
        on_bad_sample: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.images_root, self.proposals = Path(images_root), proposals or GridProposals(0)
        if not self.images_root.is_dir():
            raise FileNotFoundError(
                f"images_root {self.images_root} is not a folder; expected Flickr30K's images"
            )
        table = cached_table(_rows, (annotations,), FEATURES, version=TABLE_VERSION)
        super().__init__(Path(annotations), table, on_bad_sample=on_bad_sample)
        self._labels: list[str | None] = table["label"][:]
        self.corrected = 0
        if corrected_labels is not None:
            self._correct(read_corrected_labels(corrected_labels))
        labelled = np.array([self._labels[index] != NO_LABEL for index in self.indices], dtype=bool)
        self.without_label = int((~labelled).sum())
        self.indices = self.indices[labelled]
        if not len(self.indices):
            raise ValueError(f"{annotations}: every label is {NO_LABEL!r}, no pair is left")
        self.keep(indices)

    @classmethod
    def from_root(cls, data_root: str | Path, split: str, **options: Any) -> "SnliVeDataset":
        """The dataset of `data_root/snli_ve_{split}.jsonl`; options as for the class."""
        annotations = Path(data_root) / f"snli_ve_{split}.jsonl"
        if not annotations.is_file():
            raise FileNotFoundError(
                f"{annotations} does not exist; expected snli_ve_{{train,dev,test}}.jsonl and {IMAGES}/ in "
                f"{data_root} (https://github.com/necla-ml/SNLI-VE)"
            )
        return cls(annotations, Path(data_root) / IMAGES, **options)

    def __getitem__(self, position: int) -> SnliVeExample:
        row, label = self.row(position), self._labels[self.indices[position]]
        name = f"{row['image_id']}.jpg"
        where = f"{row['where']}, pairID {row['pair_id']!r}"
        image = ImageFile(self.images_root / name, where, "unpack Flickr30K's images whole")
        return SnliVeExample(
            row["pair_id"],
            name,
            row["hypothesis"],
            None if label is None else LABELS.index(label),
            image,
            self.proposals,
        )

    def column(self, key: str) -> list:
        """A column of every kept pair; labels are the corrected ones."""
        if key == "label":
            return [self._labels[index] for index in self.indices]
        return super().column(key)

    def unique_ids(self) -> list[str]:
        """Names for splits: the pairIDs; one that occurs again in the file gets its number of times."""
        times: Counter[str] = Counter()
        ids = []
        for pair_id in self.table["pair_id"][:]:
            times[pair_id] += 1
            ids.append(pair_id if times[pair_id] == 1 else f"{pair_id} ({times[pair_id]})")
        return [ids[index] for index in self.indices]

    def _correct(self, labels: dict[str, str]) -> None:
        for index, pair_id in enumerate(self.table["pair_id"]):
            label = labels.get(pair_id)
            if label is not None and label != self._labels[index]:
                self._labels[index] = label
                self.corrected += 1


def parse_pair(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """pair_id, image_id, hypothesis and label of a line; label is None where the line has no gold_label.

    Raises ValueError, beginning with `where`, for a missing key or an unknown label.
    """
    for key in ("pairID", "sentence2"):
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise ValueError(f"{where}: {key} is {raw.get(key)!r}, expected a text")
    image_id = next((raw[key] for key in IMAGE_ID_KEYS if key in raw), None)
    if not isinstance(image_id, str | int) or isinstance(image_id, bool) or image_id == "":
        raise ValueError(f"{where}: no image id; expected one of the keys {', '.join(IMAGE_ID_KEYS)}")
    label = raw.get("gold_label")
    if label is not None and label not in (*LABELS, NO_LABEL):
        raise ValueError(
            f"{where}: gold_label is {label!r}, expected {', '.join(LABELS)}, or {NO_LABEL!r} for none"
        )
    return {
        "pair_id": raw["pairID"],
        "image_id": str(image_id).removesuffix(".jpg"),
        "hypothesis": raw["sentence2"],
        "label": label,
    }


def read_corrected_labels(path: str | Path) -> dict[str, str]:
    """pairID → label of a CSV or TSV with a header.

    Raises ValueError for missing columns, an unknown label or two of one pair, naming file and line.
    """
    path = Path(path)
    labels: dict[str, str] = {}
    columns = csv_columns(path)
    separator = "\t" if "\t" in "".join(columns) else ","
    columns = csv_columns(path, separator)
    key = next((name for name in ("gold_label", "label") if name in columns), None)
    if key is None or "pairID" not in columns:
        raise ValueError(f"{path}: columns are {columns}, expected pairID and gold_label (or label)")
    for line, row in csv_rows(path, separator):
        pair_id, label = row["pairID"], row[key]
        if label not in LABELS:
            raise ValueError(f"{path}:{line}: {key} is {label!r}, expected {', '.join(LABELS)}")
        if labels.setdefault(pair_id, label) != label:
            raise ValueError(
                f"{path}:{line}: pairID {pair_id!r} is {label!r} here and {labels[pair_id]!r} above"
            )
    return labels


def _rows(files: tuple[str]) -> Iterator[dict[str, Any]]:
    lines = JsonLines(files[0])
    for index in range(len(lines)):
        row: dict[str, Any] = dict.fromkeys(FEATURES)
        try:
            row |= parse_pair(lines.raw(index), lines.where(index))
        except ValueError as error:
            row["reason"] = str(error)
        yield {**row, "where": lines.where(index)}
