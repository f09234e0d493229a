"""Embedding shards on disk: atomic writing, memory-mapped reading, one vectorised gather over many shards.

A shard is `<kind>-00000.safetensors` with "embeds" (rows, dim) in the store's dtype, "sum" (dim,) float64 and
"hashes" (rows,) uint64 of the rows' keys, and `<kind>-00000.json`, the list of the keys themselves.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from cliptd.store.key_index import KeyIndex, hash_keys
from cliptd.utils.files import write_atomically

STORED_AS = {"float16": (np.float16, "F16"), "bfloat16": (np.uint16, "BF16"), "float32": (np.float32, "F32")}


def to_stored(embeds: Tensor, dtype: str) -> np.ndarray:
    """Return embeddings as the numpy array of a shard. numpy lacks bfloat16, so it is held as uint16 bits."""
    embeds = embeds.to("cpu", getattr(torch, dtype)).contiguous()
    return (embeds.view(torch.uint16) if dtype == "bfloat16" else embeds).numpy()


def from_stored(array: np.ndarray, dtype: str) -> Tensor:
    """Return the embeddings that `to_stored` was given, as float32."""
    values = torch.from_numpy(array)
    return (values.view(torch.bfloat16) if dtype == "bfloat16" else values).float()


def write_shard(folder: Path, stem: str, keys: Sequence[str], array: np.ndarray, dtype: str) -> None:
    """Write the two files of a shard, the keys first."""
    hashes = torch.from_numpy(hash_keys(keys).copy())
    rows = torch.from_numpy(array)
    embeds = rows.view(torch.bfloat16) if dtype == "bfloat16" else rows
    content = {"embeds": embeds, "hashes": hashes, "sum": embeds.sum(0, dtype=torch.float64)}
    write_atomically(folder / f"{stem}.json", json.dumps(list(keys), ensure_ascii=False).encode())
    write_atomically(folder / f"{stem}.safetensors", save(content))


class Shard(NamedTuple):
    """A mapped shard.

    embeds: (rows, dim), read-only and memory-mapped.
    hashes: (rows,) uint64 of the keys, read-only and memory-mapped.
    total: (dim,) float64, the sum of the rows.
    """

    embeds: np.ndarray
    hashes: np.ndarray
    total: np.ndarray


def map_shard(path: Path, dtype: str, rows: int, dim: int) -> Shard:
    """Memory-map a shard.

    Raises FileNotFoundError if the file is missing, ValueError if it is truncated or holds another shape or type.
    """
    numpy_dtype, name = STORED_AS[dtype]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is listed in index.json but missing; restore it or build the store again"
        )
    actual = path.stat().st_size
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size) if size < actual else b"")
            embeds, hashes, total = header["embeds"], header["hashes"], header["sum"]
            end = 8 + size + max(part["data_offsets"][1] for part in (embeds, hashes, total))
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{path} has no readable safetensors header ({actual} bytes); build the store again"
            ) from None
        if actual != end:
            raise ValueError(
                f"{path} has {actual} bytes, expected {end}: it is truncated; build the store again"
            )
        if embeds["dtype"] != name or embeds["shape"] != [rows, dim]:
            found = f"{embeds['dtype']} {embeds['shape']}"
            raise ValueError(
                f"{path} holds {found}, but index.json says {name} {[rows, dim]}; build the store again"
            )
    # Maps of numpy and Python hold a file descriptor each, and a store may have more shards than a process may files.
    content = torch.from_file(str(path), shared=False, size=actual, dtype=torch.uint8).numpy()[8 + size :]
    content.flags.writeable = False
    embeds, hashes, total = (content[slice(*part["data_offsets"])] for part in (embeds, hashes, total))
    return Shard(
        embeds.view(numpy_dtype).reshape(rows, dim), hashes.view(np.uint64), total.view(np.float64).copy()
    )


class Table:
    """Rows of several arrays under one numbering, found by key.

    Args:
        dtype: "float16", "bfloat16" or "float32", as stored.
        dim: embedding width.
    """

    def __init__(self, dtype: str, dim: int):
        self.dtype, self.dim, self.index = dtype, dim, KeyIndex()
        self.arrays: list[np.ndarray] = []
        self.starts = np.zeros(1, np.int64)  # first row of each array, and the end
        self.sums = np.zeros(dim, np.float64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __contains__(self, key: str) -> bool:
        return key in self.index

    def extend(self, shards: Sequence[Shard]) -> None:
        """Add the shards of a store, in their order."""
        self.index.extend([shard.hashes for shard in shards])
        for shard in shards:
            self._add(shard)

    def append(self, keys: Sequence[str], shard: Shard) -> None:
        """Add a new shard that holds these keys."""
        self.index.add(keys)
        self._add(shard)

    def _add(self, shard: Shard) -> None:
        self.arrays.append(shard.embeds)
        self.starts = np.append(self.starts, self.starts[-1] + len(shard.embeds))
        self.sums = self.sums + shard.total

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """Return (n,) row numbers. Raises KeyError with the first key that is not there."""
        return self.index.find(keys)

    def gather(self, rows: np.ndarray) -> Tensor:
        """Return (n, dim) float32 of the given rows, in their order. A row may be given twice."""
        if len(self.arrays) == 1:
            return from_stored(self.arrays[0][rows], self.dtype)
        out = np.empty((len(rows), self.dim), STORED_AS[self.dtype][0])
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for i in np.unique(owner):
            mine = owner == i
            out[mine] = self.arrays[i][rows[mine] - self.starts[i]]
        return from_stored(out, self.dtype)
