"""Our own layout of a reinforced dataset: beside the data, float16, memory-mapped.

A folder holds reinforcement.json and for each part of the data reinforced-00000.safetensors, with image_embeds (rows,
augmentations, Σ dims), text_embeds (rows, 1 + captions, Σ dims), crops (rows, augmentations, 4), operations and
magnitudes (rows, augmentations, operations), and reinforced-00000.json with the rows' positions, keys, texts and
captions. The pictures stay where they are.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from safetensors.torch import save

from cliptd.data.augmentation import OPERATIONS, Augmentation
from cliptd.data.pairs import Pair
from cliptd.data.reinforced import CARD, Reinforced, read_card
from cliptd.data.tables import cached_table
from cliptd.shards import read_json, write_atomically

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
}
NUMPY = {"F16": np.float16, "I32": np.int32, "U8": np.uint8, "F32": np.float32}


class ReinforcedStore:
    """Map-style dataset of `Reinforced`: a folder of ours and the pairs it was made of.

    Raises:
        FileNotFoundError, ValueError: a part is missing, cut short, or of other pairs; names it.
    """

    def __init__(self, folder: str | Path, pairs: Sequence[Pair]) -> None:
        self.folder, self.pairs = Path(folder), pairs
        self.card = read_card(self.folder / CARD)
        self.name = f"{self.folder.resolve()} of {getattr(pairs, 'name', type(pairs).__name__)}"
        self.skipped: list[str] = []
        self._parts: list[dict[str, np.ndarray]] = []
        heads = []
        covered = 0
        while covered < len(pairs):
            stem = self.folder / f"reinforced-{len(self._parts):05d}"
            if not stem.with_suffix(".safetensors").is_file():
                raise FileNotFoundError(
                    f"{stem}.safetensors is missing: {covered} of {len(pairs)} pairs are reinforced; run "
                    "reinforce_dataset.py with the same arguments again"
                )
            head = read_json(stem.with_suffix(".json"))
            if head["first"] != covered:
                raise ValueError(
                    f"{stem}.json begins at pair {head['first']}, expected {covered}; reinforce again"
                )
            self._parts.append(_map(stem.with_suffix(".safetensors"), len(head["keys"])))
            self.skipped += head["bad"]
            heads.append(stem.with_suffix(".json"))
            covered = head["end"]
        if not heads:
            raise ValueError(f"{self.folder}: the data holds no pair")
        self._table = cached_table(_rows, tuple(heads), FEATURES, version=TABLE_VERSION)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Reinforced:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        found = self._table[index]
        part, row, pair = self._parts[found["part"]], found["row"], self.pairs[found["position"]]
        if (pair.key, pair.text) != (found["key"], found["text"]):
            raise ValueError(
                f"{self.folder}: pair {found['position']} of the data is {pair.key!r} with {pair.text!r}, and "
                f"{found['key']!r} with {found['text']!r} was reinforced; give the same data"
            )
        augmentations = tuple(
            Augmentation(
                tuple(crop), tuple((OPERATIONS[n], m) for n, m in zip(operations, magnitudes, strict=True))
            )
            for crop, operations, magnitudes in zip(
                *(part[name][row].tolist() for name in ("crops", "operations", "magnitudes")), strict=True
            )
        )
        return Reinforced(
            pair.key,
            pair.image if callable(pair.image) else lambda: pair.image,
            pair.text,
            tuple(found["captions"]),
            augmentations,
            part["image_embeds"][row],
            part["text_embeds"][row],
        )


def write_part(
    folder: Path,
    number: int,
    rows: Sequence[tuple[int, Reinforced]],
    *,
    first: int,
    end: int,
    bad: Sequence[str],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Write the samples of the pairs from `first` to before `end`, (position, sample) each; the weights come last.

    shapes: of a row of each array, which a part without a single good pair does not show.
    """
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
    tensors = {
        name: torch.from_numpy(
            np.asarray(values, dtype=NUMPY[ARRAYS[name]]).reshape(len(samples), *shapes[name])
        )
        for name, values in arrays.items()
    }
    described = {
        "first": first,
        "end": end,
        "positions": [position for position, _ in rows],
        "keys": [sample.key for sample in samples],
        "texts": [sample.text for sample in samples],
        "captions": [sample.captions for sample in samples],
        "bad": list(bad),
    }
    stem = folder / f"reinforced-{number:05d}"
    write_atomically(stem.with_suffix(".json"), json.dumps(described, ensure_ascii=False).encode())
    write_atomically(stem.with_suffix(".safetensors"), save(tensors))


def _rows(files: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for part, path in enumerate(files):
        head = read_json(Path(path))
        columns = zip(head["positions"], head["keys"], head["texts"], head["captions"], strict=True)
        for row, (position, key, text, captions) in enumerate(columns):
            found = {"part": part, "row": row, "position": position, "key": key, "text": text}
            yield {**found, "captions": captions}


def _map(path: Path, rows: int) -> dict[str, np.ndarray]:
    """The arrays of a part, memory-mapped; refused if they are cut short or of another number of rows."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size) if size < path.stat().st_size else b"")
            found = {name: (header[name]["dtype"], header[name]["shape"][0]) for name in ARRAYS}
            end = 8 + size + max(header[name]["data_offsets"][1] for name in ARRAYS)
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(f"{path} has no readable head; delete it and reinforce again") from None
    if path.stat().st_size != end or found != {name: (dtype, rows) for name, dtype in ARRAYS.items()}:
        raise ValueError(
            f"{path} holds {found} in {path.stat().st_size} bytes, expected {rows} rows of each in {end} bytes; delete "
            "it and reinforce again"
        )
    if not rows:
        return {name: np.zeros(header[name]["shape"], NUMPY[dtype]) for name, dtype in ARRAYS.items()}
    return {
        name: np.memmap(
            path,
            NUMPY[dtype],
            mode="r",
            offset=8 + size + header[name]["data_offsets"][0],
            shape=tuple(header[name]["shape"]),
        )
        for name, dtype in ARRAYS.items()
    }
