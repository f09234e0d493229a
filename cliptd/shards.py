"""Embedding shards on disk: atomic writing, memory-mapped reading, one vectorised gather over many shards.

A shard is `<kind>-00000.safetensors` with "embeds" (rows, dim) in the store's dtype and "sum" (dim,)
float64, and `<kind>-00000.json`, the list of the rows' keys.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

STORED_AS = {"float16": (np.float16, "F16"), "bfloat16": (np.uint16, "BF16"), "float32": (np.float32, "F32")}


def write_atomically(path: Path, content: bytes) -> None:
    """Write `path` so that a reader, or a process killed at any moment, sees the old file, the new one, or
    none.
    """
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_json(path: Path):
    """The JSON content of `path`; ValueError naming the file if it is cut short or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}); build the store again") from None


def to_stored(embeds: Tensor, dtype: str) -> np.ndarray:
    """Float embeddings as the numpy array a shard holds (bfloat16, which numpy lacks, as its 16 bits)."""
    embeds = embeds.to("cpu", getattr(torch, dtype)).contiguous()
    return (embeds.view(torch.uint16) if dtype == "bfloat16" else embeds).numpy()


def from_stored(array: np.ndarray, dtype: str) -> Tensor:
    """The inverse of `to_stored`, as float32."""
    values = torch.from_numpy(array)
    return (values.view(torch.bfloat16) if dtype == "bfloat16" else values).float()


def write_shard(folder: Path, stem: str, keys: Sequence[str], array: np.ndarray, dtype: str) -> None:
    """Write one shard, keys first."""
    rows = torch.from_numpy(array)
    embeds = rows.view(torch.bfloat16) if dtype == "bfloat16" else rows
    content = {"embeds": embeds, "sum": embeds.sum(0, dtype=torch.float64)}
    write_atomically(folder / f"{stem}.json", json.dumps(list(keys), ensure_ascii=False).encode())
    write_atomically(folder / f"{stem}.safetensors", save(content))


def map_shard(path: Path, dtype: str, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory-map a shard's embeddings: ((rows, dim) read-only array, (dim,) float64 sum of the rows).

    Raises: FileNotFoundError or ValueError naming the file when it is missing, truncated or of another shape.
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
            embeds, total = header["embeds"], header["sum"]
            end = 8 + size + max(embeds["data_offsets"][1], total["data_offsets"][1])
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
        file.seek(8 + size + total["data_offsets"][0])
        summed = np.frombuffer(file.read(8 * dim), np.float64)
    start = 8 + size + embeds["data_offsets"][0]
    return np.memmap(path, numpy_dtype, mode="r", offset=start, shape=(rows, dim)), summed


class Table:
    """Rows of several arrays under one numbering, found by key.

    Args:
        dtype: "float16", "bfloat16" or "float32", as stored.
        dim: embedding width.
    """

    def __init__(self, dtype: str, dim: int):
        self.dtype, self.dim = dtype, dim
        self.rows: dict[str, int] = {}
        self.arrays: list[np.ndarray] = []
        self.starts = np.zeros(1, np.int64)  # first row of each array, and the end
        self.sums = np.zeros(dim, np.float64)

    def append(self, keys: Sequence[str], array: np.ndarray, total: np.ndarray) -> None:
        """Add an array whose rows belong to `keys` and add up to `total`."""
        first = int(self.starts[-1])
        self.rows.update(zip(keys, range(first, first + len(keys)), strict=True))
        self.arrays.append(array)
        self.starts = np.append(self.starts, first + len(keys))
        self.sums = self.sums + total

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """(n,) row numbers; KeyError holding the first key that is not there."""
        return np.fromiter(map(self.rows.__getitem__, keys), np.int64, len(keys))

    def gather(self, rows: np.ndarray) -> Tensor:
        """(n, dim) float32 of the given rows, in their order, repeats allowed."""
        if len(self.arrays) == 1:
            return from_stored(self.arrays[0][rows], self.dtype)
        out = np.empty((len(rows), self.dim), STORED_AS[self.dtype][0])
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for i in np.unique(owner):
            mine = owner == i
            out[mine] = self.arrays[i][rows[mine] - self.starts[i]]
        return from_stored(out, self.dtype)
