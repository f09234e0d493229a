"""The files of one part of a reinforced dataset in the compact layout.

reinforced-00000.safetensors holds the arrays, each with one row per sample:

- image_embeds (rows, augmentations, Σ dims) and text_embeds (rows, 1 + captions, Σ dims), float16;
- crops (rows, augmentations, 4);
- operations and magnitudes (rows, augmentations, operations);
- checksum (rows,), the CRC-32 of the rest of the row.

Its metadata hold the range of the pairs that the part was made of and the reasons of those that were skipped.
reinforced-00000.json holds the positions, keys, texts and captions of the rows.
"""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save

from cliptd.data.augmentation import OPERATIONS
from cliptd.reinforcement.dataset import Reinforced, ReinforcementCard
from cliptd.utils.files import write_atomically

ARRAYS: dict[str, str] = {
    "image_embeds": "F16",
    "text_embeds": "F16",
    "crops": "I32",
    "operations": "U8",
    "magnitudes": "F32",
    "checksum": "I64",
}
"""The arrays of a part and safetensors' names of their types."""
NUMPY = {"F16": np.float16, "I32": np.int32, "I64": np.int64, "U8": np.uint8, "F32": np.float32}


def bytes_of(name: str) -> int:
    """Return the bytes of one number of an array."""
    return np.dtype(NUMPY[ARRAYS[name]]).itemsize


def shapes_of(card: ReinforcementCard) -> dict[str, tuple[int, ...]]:
    """Return the shape of one row of each array."""
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
    """The places of a part's arrays in its file.

    No file stays open, because a dataset may have more parts than a process may open files.

    offsets: where each array begins, in bytes. shapes: the shape of one row of each array. first, end: the range of the
    pairs that it was made of. bad: the reasons of the pairs that were skipped.
    """

    path: Path
    rows: int
    offsets: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    first: int
    end: int
    bad: list[str]

    def read(self, row: int) -> dict[str, np.ndarray]:
        """Return one row of every array. Raises ValueError if its checksum differs."""
        found: dict[str, np.ndarray] = {}
        with self.path.open("rb") as file:
            for name, shape in self.shapes.items():
                size = bytes_of(name) * math.prod(shape)
                file.seek(self.offsets[name] + row * size)
                found[name] = np.frombuffer(file.read(size), NUMPY[ARRAYS[name]]).reshape(shape)
        if checksum(found) != found["checksum"]:
            raise ValueError(
                f"{self.path}, row {row}: is corrupt; delete the file and reinforce again, or skip the sample"
            )
        return found


def checksum(row: dict[str, np.ndarray]) -> int:
    """Return the CRC-32 of one row of every array except the checksums."""
    found = 0
    for name in ARRAYS:
        if name != "checksum":
            found = zlib.crc32(row[name].tobytes(), found)
    return found


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
    """Write the two files of a part; the file with the arrays comes last.

    Args:
        folder: the folder of the reinforced dataset.
        number: the number of the part.
        rows: (position, sample) of the pairs that could be read.
        first, end: the range of all pairs of the part, `end` not included.
        bad: the reasons of the pairs that were skipped.
        card: describes the dataset.
    """
    shapes = shapes_of(card)  # the samples show none if every pair was skipped
    samples = [sample for _, sample in rows]
    arrays: dict[str, list[Any]] = {
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
    # one entry, because several have no fixed order, but the same samples must make the same bytes
    of_part = {"part": json.dumps({"first": first, "end": end, "bad": list(bad)})}
    stem = folder / f"reinforced-{number:05d}"
    write_atomically(stem.with_suffix(".json"), json.dumps(described, ensure_ascii=False).encode())
    write_atomically(stem.with_suffix(".safetensors"), save(tensors, metadata=of_part))


def read_part(path: Path) -> Part:
    """Return a part from the head of its file.

    Raises:
        ValueError: the file is cut short, or its arrays have different numbers of rows.
    """
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
            f"{path} holds {dtypes} of shapes {shapes} in {size} bytes, expected {ARRAYS} with one number of rows in "
            f"{end} bytes; delete it and reinforce again"
        )
    of_a_row = {name: shape[1:] for name, shape in shapes.items()}
    return Part(path, rows.pop(), offsets, of_a_row, first, last, bad)
