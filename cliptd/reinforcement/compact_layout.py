"""Our own layout of a reinforced dataset: beside the data, float16, read row by row.

A folder holds reinforcement.json and for each part of the data reinforced-00000.safetensors, with image_embeds (rows,
augmentations, Σ dims), text_embeds (rows, 1 + captions, Σ dims), crops (rows, augmentations, 4), operations and
magnitudes (rows, augmentations, operations), checksum (rows,), the CRC-32 of what else is in a row, and, among its
metadata, which pairs it is of and what is wrong with those left out; and reinforced-00000.json with the rows'
positions, keys, texts and captions. The pictures stay where they are.
"""

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from safetensors.torch import save

from cliptd.data.augmentation import OPERATIONS, Augmentation
from cliptd.data.files.tables import cached_table
from cliptd.data.identity import identity_of
from cliptd.data.pairs.pair import Pair
from cliptd.reinforcement.dataset import CARD, Reinforced, ReinforcementCard, identity_of_card, read_card
from cliptd.store.shards import read_json
from cliptd.utils.files import write_atomically

TABLE_VERSION = 1
FEATURES = datasets.Features(
    {
        "part": datasets.Value("int32"),
        "row": datasets.Value("int32"),
        "position": datasets.Value("int64"),
        "key": datasets.Value("string"),
        "text": datasets.Value("string"),
        "captions": datasets.List(datasets.Value("string")),
    }
)

ARRAYS = {
    "image_embeds": "F16",
    "text_embeds": "F16",
    "crops": "I32",
    "operations": "U8",
    "magnitudes": "F32",
    "checksum": "I64",
}
NUMPY = {"F16": np.float16, "I32": np.int32, "I64": np.int64, "U8": np.uint8, "F32": np.float32}


def bytes_of(name: str) -> int:
    """Of a number of an array."""
    return np.dtype(NUMPY[ARRAYS[name]]).itemsize


def shapes_of(card: ReinforcementCard) -> dict[str, tuple[int, ...]]:
    """Of a row of each array."""
    width = sum(card.embed_dims)
    return {
        "image_embeds": (card.augmentations, width),
        "text_embeds": (1 + card.captions, width),
        "crops": (card.augmentations, 4),
        "operations": (card.augmentations, card.policy.operations),
        "magnitudes": (card.augmentations, card.policy.operations),
        "checksum": (),
    }


class Part(NamedTuple):
    """Where a part's arrays are. Nothing stays open: a dataset may have more parts than a process may have files.

    offsets: in bytes. shapes: of a row. first, end: of its pairs. bad: what is wrong with those left out.
    """

    path: Path
    rows: int
    offsets: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    first: int
    end: int
    bad: list[str]

    def read(self, row: int) -> dict[str, np.ndarray]:
        """A row of every array. Raises ValueError if it is not as it was written."""
        found = {}
        with self.path.open("rb") as file:
            for name, shape in self.shapes.items():
                size = bytes_of(name) * math.prod(shape)
                file.seek(self.offsets[name] + row * size)
                found[name] = np.frombuffer(file.read(size), NUMPY[ARRAYS[name]]).reshape(shape)
        if checksum(found) != found["checksum"]:
            raise ValueError(
                f"{self.path}, row {row}: is corrupt; delete the file and reinforce again, or leave the sample out"
            )
        return found


def checksum(row: dict[str, np.ndarray]) -> int:
    """Of a row of every array but that of the checksums themselves."""
    found = 0
    for name in ARRAYS:
        if name != "checksum":
            found = zlib.crc32(np.ascontiguousarray(row[name]), found)
    return found


class ReinforcedStore:
    """Map-style dataset of `Reinforced`: a folder of ours and the pairs it was made of.

    The pairs may lie elsewhere than when they were reinforced; each is told by its text and the last part of its key.

    Raises:
        FileNotFoundError, ValueError: a part is missing, cut short, or of other pairs; names it.
    """

    def __init__(self, folder: str | Path, pairs: Sequence[Pair]) -> None:
        self.folder, self.pairs = Path(folder), pairs
        self.card = read_card(self.folder / CARD)
        self.identity = f"reinforced {identity_of_card(self.folder / CARD)}, {identity_of(pairs)}"
        self.skipped: list[str] = list(getattr(pairs, "skipped", ()))
        self._parts: list[Part] = []
        covered = 0
        while covered < len(pairs):
            path = self.folder / f"reinforced-{len(self._parts):05d}.safetensors"
            if not path.is_file():
                if next(self.folder.glob("reinforced-*.tar"), None) is not None:
                    raise FileNotFoundError(
                        f"{self.folder} is of the public layout, whose shards hold all: give {self.folder}/*.tar as "
                        "data, and nothing as reinforced"
                    )
                raise FileNotFoundError(
                    f"{path} is missing: {covered} of {len(pairs)} pairs are reinforced; run reinforce_dataset.py with "
                    "the same arguments again"
                )
            part = read_part(path)
            if part.first != covered:
                raise ValueError(f"{path} begins at pair {part.first}, expected {covered}; reinforce again")
            self._parts.append(part)
            self.skipped += part.bad
            covered = part.end
        if not self._parts:
            raise ValueError(f"{self.folder}: the data holds no pair")
        if covered != len(pairs):
            raise ValueError(
                f"{self._parts[-1].path} was made of the pairs up to {covered}, the data holds {len(pairs)}; give the "
                "same data"
            )
        heads = tuple(part.path.with_suffix(".json") for part in self._parts)
        self._table = cached_table(_rows, heads, FEATURES, version=TABLE_VERSION)
        rows = sum(part.rows for part in self._parts)
        if len(self._table) != rows:
            raise ValueError(
                f"{self.folder}: the .json files describe {len(self._table)} samples, the .safetensors hold {rows}; "
                "delete both of the part that differs and reinforce again"
            )

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Reinforced:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        found = self._table[index]
        part, pair = self._parts[found["part"]].read(found["row"]), self.pairs[found["position"]]
        if (_last(pair.key), pair.text) != (_last(found["key"]), found["text"]):
            raise ValueError(
                f"{self.folder}: pair {found['position']} of the data is {pair.key!r} with {pair.text!r}, and "
                f"{found['key']!r} with {found['text']!r} was reinforced; give the same data"
            )
        augmentations = tuple(
            Augmentation(
                tuple(crop), tuple((OPERATIONS[n], m) for n, m in zip(operations, magnitudes, strict=True))
            )
            for crop, operations, magnitudes in zip(
                *(part[name].tolist() for name in ("crops", "operations", "magnitudes")), strict=True
            )
        )
        return Reinforced(
            pair.key,
            pair.image if callable(pair.image) else lambda: pair.image,
            pair.text,
            tuple(found["captions"]),
            augmentations,
            part["image_embeds"],
            part["text_embeds"],
        )


def write_part(
    folder: Path,
    number: int,
    rows: Sequence[tuple[int, Reinforced]],
    *,
    first: int,
    end: int,
    bad: Sequence[str],
    card: ReinforcementCard,
) -> None:
    """Write the samples of the pairs from `first` to before `end`, (position, sample) each; the arrays come last."""
    shapes = shapes_of(card)  # which a part without a single good pair does not show
    samples = [sample for _, sample in rows]
    arrays = {
        "image_embeds": [sample.image_embeds for sample in samples],
        "text_embeds": [sample.text_embeds for sample in samples],
        "crops": [[a.crop for a in sample.augmentations] for sample in samples],
        "operations": [
            [[OPERATIONS.index(n) for n, _ in a.operations] for a in s.augmentations] for s in samples
        ],
        "magnitudes": [[[m for _, m in a.operations] for a in s.augmentations] for s in samples],
    }
    kept = {
        name: np.asarray(values, dtype=NUMPY[ARRAYS[name]]).reshape(len(samples), *shapes[name])
        for name, values in arrays.items()
    }
    rows_kept = ({name: array[k] for name, array in kept.items()} for k in range(len(samples)))
    kept["checksum"] = np.array([checksum(row) for row in rows_kept], dtype=np.int64)
    tensors = {name: torch.from_numpy(array) for name, array in kept.items()}
    described = {
        "positions": [position for position, _ in rows],
        "keys": [sample.key for sample in samples],
        "texts": [sample.text for sample in samples],
        "captions": [sample.captions for sample in samples],
    }
    # one entry: several have no fixed order, and the same samples shall make the same bytes
    of_part = {"part": json.dumps({"first": first, "end": end, "bad": list(bad)})}
    stem = folder / f"reinforced-{number:05d}"
    write_atomically(stem.with_suffix(".json"), json.dumps(described, ensure_ascii=False).encode())
    write_atomically(stem.with_suffix(".safetensors"), save(tensors, metadata=of_part))


def _rows(files: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for part, path in enumerate(files):
        head = read_json(Path(path))
        columns = zip(head["positions"], head["keys"], head["texts"], head["captions"], strict=True)
        for row, (position, key, text, captions) in enumerate(columns):
            found = {"part": part, "row": row, "position": position, "key": key, "text": text}
            yield {**found, "captions": captions}


def read_part(path: Path) -> Part:
    """From its head; refused if the file is cut short or its arrays have not as many rows each."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(start - 8) if start < size else b"")
            about = json.loads(header["__metadata__"]["part"])
            shapes = {name: tuple(header[name]["shape"]) for name in ARRAYS}
            dtypes = {name: header[name]["dtype"] for name in ARRAYS}
            offsets = {name: start + header[name]["data_offsets"][0] for name in ARRAYS}
            end = start + max(header[name]["data_offsets"][1] for name in ARRAYS)
            first, last, bad = (about[name] for name in ("first", "end", "bad"))
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(f"{path} has no readable head; delete it and reinforce again") from None
    rows = {shape[0] for shape in shapes.values()}
    if size != end or dtypes != ARRAYS or len(rows) > 1:
        raise ValueError(
            f"{path} holds {dtypes} of shapes {shapes} in {size} bytes, expected {ARRAYS}, as many rows each, in {end} "
            "bytes; delete it and reinforce again"
        )
    of_a_row = {name: shape[1:] for name, shape in shapes.items()}
    return Part(path, rows.pop(), offsets, of_a_row, first, last, bad)


def _last(key: str) -> str:
    return key.rsplit("/", 1)[-1]
