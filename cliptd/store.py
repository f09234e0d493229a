"""The teacher's knowledge on disk: `StoreWriter` adds what is missing, `TeacherStore` reads it,
memory-mapped.

A store folder holds `index.json` and shards (`cliptd.shards`). In float16, its default, a stored element
differs from the teacher's by at most 2⁻¹¹·|x| + 2⁻²⁵.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cliptd.dual_encoders import Similarity, Teacher, TeacherEnsemble
from cliptd.shards import (
    STORED_AS,
    Table,
    from_stored,
    map_shard,
    read_json,
    to_stored,
    write_atomically,
    write_shard,
)
from cliptd.sources import LiveSource, Picture, Source, as_source, encode_images, finite

__all__ = ["LiveSource", "Source", "StoreMissError", "StoreWriter", "TeacherStore", "as_source"]

FORMAT_VERSION = 1
KINDS = ("images", "regions", "texts")


class StoreMissError(KeyError):
    """An image or text that a read-only store does not hold; `kind` and `key` say which."""

    def __init__(self, path: Path, kind: str, key: str, count: int):
        thing = kind.removesuffix("s")
        self.path, self.kind, self.key = path, kind, key
        super().__init__(
            f"store {path} has no {thing} {key!r} (it has {count} {kind}); add it with "
            f"`python scripts/build_store.py --store {path} …` or StoreWriter(path, teacher).{thing}_embeds"
        )

    def __str__(self) -> str:
        return self.args[0]


class TeacherStore(Similarity):
    """A store's embeddings, read-only and memory-mapped; forked and spawned workers may share it.

    `store.images`, `store.regions` and `store.texts` are the keys it holds; `len(store)` counts all.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        index = _read_index(self.path)
        self.fingerprint: str = index["fingerprint"]
        self.name: str = index["teacher"]
        self.dtype: str = index["dtype"]
        self.embed_dim: int = index["embed_dim"]
        self.logit_scale: float = index["logit_scale"]
        self.logit_bias: float | None = index["logit_bias"]
        self._tables = _read_tables(self.path, index)

    @classmethod
    def open(cls, path: str | Path, teacher: Teacher | TeacherEnsemble | str | None = None) -> "TeacherStore":
        """Open the store in folder `path`, and refuse it if it was not made by `teacher` (or that
        fingerprint).

        Raises: FileNotFoundError, ValueError for a damaged file or another fingerprint.
        """
        store = cls(path)
        if teacher is not None:
            _check_teacher(store.path, store.fingerprint, store.name, teacher)
        return store

    def __reduce__(self):
        return TeacherStore, (self.path,)

    def __len__(self) -> int:
        return sum(len(table.rows) for table in self._tables.values())

    @property
    def images(self) -> Iterable[str]:
        return self._tables["images"].rows.keys()

    @property
    def regions(self) -> Iterable[str]:
        return self._tables["regions"].rows.keys()

    @property
    def texts(self) -> Iterable[str]:
        return self._tables["texts"].rows.keys()

    def image_embeds(self, keys: Sequence[str], images: Sequence[Picture] = ()) -> Tensor:
        return self._look_up("images", keys)

    def region_embeds(self, keys: Sequence[str], regions: Sequence[Picture] = ()) -> Tensor:
        return self._look_up("regions", keys)

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        return self._look_up("texts", texts)

    def image_mean(self) -> Tensor:
        return _mean(self._tables["images"], self.path)

    def _look_up(self, kind: str, keys: Sequence[str]) -> Tensor:
        table = self._tables[kind]
        try:
            rows = table.find(keys)
        except KeyError as error:
            raise StoreMissError(self.path, kind, error.args[0], len(table.rows)) from None
        return finite(table.gather(rows), kind.removesuffix("s"), keys, f"store {self.path}")


class StoreWriter(Similarity):
    """A source that computes what its store lacks and keeps it: whole shards, each written atomically.

    Killed at any moment and opened again, it goes on from the shards that are complete. Close it (or use
    `with`) to write the last, partial shard.

    Args:
        path: store folder, made if missing; one writer at a time.
        teacher: whose embeddings these are; another teacher's store is refused.
        dtype: "float16", "bfloat16" or "float32".
        shard_size: rows per shard.
    """

    def __init__(
        self,
        path: str | Path,
        teacher: Teacher | TeacherEnsemble,
        *,
        dtype: Literal["float16", "bfloat16", "float32"] = "float16",
        shard_size: int = 65_536,
    ):
        if dtype not in STORED_AS:
            raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(STORED_AS)}")
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}; expected at least 1")
        self.path, self.teacher, self.dtype, self.shard_size = Path(path), teacher, dtype, shard_size
        self.embed_dim, self.name, self.fingerprint = teacher.embed_dim, teacher.name, teacher.fingerprint
        self.logit_scale, self.logit_bias = teacher.logit_scale, teacher.logit_bias
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path)
        try:
            self._index = self._resume()
            self._tables = _read_tables(self.path, self._index)
        except Exception:
            self._lock.close()
            raise
        self._pending: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def image_embeds(self, keys: Sequence[str], images: Sequence[Picture]) -> Tensor:
        return self._picture_embeds("images", keys, images)

    def region_embeds(self, keys: Sequence[str], regions: Sequence[Picture]) -> Tensor:
        return self._picture_embeds("regions", keys, regions)

    def _picture_embeds(self, kind: str, keys: Sequence[str], images: Sequence[Picture]) -> Tensor:
        if len(keys) != len(images):
            raise ValueError(f"{len(keys)} keys for {len(images)} {kind}; expected one each")
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = [key for key in dict.fromkeys(keys) if not self._has(kind, key)]
        for batch in self._batches(missing):
            self._add(kind, batch, encode_images(self.teacher, batch, [images[first[key]] for key in batch]))
        return self._read(kind, keys)

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        missing = [text for text in dict.fromkeys(texts) if not self._has("texts", text)]
        for batch in self._batches(missing):
            encoded = finite(self.teacher.encode_texts(batch).cpu(), "text", batch, self.name)
            self._add("texts", batch, encoded)
        return self._read("texts", texts)

    def image_mean(self) -> Tensor:
        self.flush()
        return _mean(self._tables["images"], self.path)

    def flush(self) -> None:
        """Write what is pending now, as a shard that may be small."""
        for kind in KINDS:
            while self._pending[kind]:
                self._write(kind)

    def close(self) -> None:
        """Write what is pending and let other writers in. Safe to call twice."""
        if not self._lock.closed:
            try:
                self.flush()
            finally:
                self._lock.close()

    def _has(self, kind: str, key: str) -> bool:
        return key in self._tables[kind].rows or key in self._pending[kind]

    def _batches(self, keys: list[str]):
        if self._lock.closed and keys:
            raise ValueError(f"the writer of store {self.path} is closed; open a new one to add {keys[0]!r}")
        step = self.teacher.batch_size
        return (keys[i : i + step] for i in range(0, len(keys), step))

    def _add(self, kind: str, keys: list[str], embeds: Tensor) -> None:
        self._pending[kind].update(zip(keys, to_stored(embeds, self.dtype), strict=True))
        while len(self._pending[kind]) >= self.shard_size:
            self._write(kind)

    def _write(self, kind: str) -> None:
        pending, table = self._pending[kind], self._tables[kind]
        keys = list(pending)[: self.shard_size]
        stem = f"{kind}-{len(table.arrays):05d}"
        write_shard(self.path, stem, keys, np.stack([pending[key] for key in keys]), self.dtype)
        self._index["shards"].append({"kind": kind, "stem": stem, "rows": len(keys)})
        write_atomically(self.path / "index.json", json.dumps(self._index, indent=1).encode())
        table.append(
            keys, *map_shard(self.path / f"{stem}.safetensors", self.dtype, len(keys), self.embed_dim)
        )
        for key in keys:
            del pending[key]

    def _read(self, kind: str, keys: Sequence[str]) -> Tensor:
        pending, table = self._pending[kind], self._tables[kind]
        waiting = [i for i, key in enumerate(keys) if key in pending]
        written = [i for i, key in enumerate(keys) if key not in pending]
        out = torch.empty(len(keys), self.embed_dim)
        if written:
            out[written] = table.gather(table.find([keys[i] for i in written]))
        if waiting:
            out[waiting] = from_stored(np.stack([pending[keys[i]] for i in waiting]), self.dtype)
        return out

    def _resume(self) -> dict:
        for leftover in self.path.glob("*.tmp"):
            leftover.unlink()
        if not (self.path / "index.json").exists():
            return {
                "format_version": FORMAT_VERSION,
                "fingerprint": self.fingerprint,
                "teacher": self.name,
                "embed_dim": self.embed_dim,
                "dtype": self.dtype,
                "logit_scale": self.logit_scale,
                "logit_bias": self.logit_bias,
                "shards": [],
            }
        index = _read_index(self.path)
        _check_teacher(self.path, index["fingerprint"], index["teacher"], self.teacher)
        if index["dtype"] != self.dtype:
            raise ValueError(
                f"store {self.path} holds {index['dtype']}, asked to add {self.dtype}; use its dtype"
            )
        return index


def _mean(table: Table, path: Path) -> Tensor:
    if not table.rows:
        raise ValueError(f"store {path} holds no image, so it has no image_mean; add images first")
    return torch.from_numpy(table.sums / len(table.rows)).float()


def _read_index(path: Path) -> dict:
    if not (path / "index.json").is_file():
        raise FileNotFoundError(
            f"{path} is not a store: it has no index.json; build it with scripts/build_store.py"
        )
    index = read_json(path / "index.json")
    version = index.get("format_version") if isinstance(index, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path / 'index.json'} has format_version {version}, expected {FORMAT_VERSION}; build it again"
        )
    return index


def _read_tables(path: Path, index: dict) -> dict[str, Table]:
    tables = {kind: Table(index["dtype"], index["embed_dim"]) for kind in KINDS}
    for shard in index["shards"]:
        file = path / f"{shard['stem']}.safetensors"
        mapped = map_shard(file, index["dtype"], shard["rows"], index["embed_dim"])
        keys_file = path / f"{shard['stem']}.json"
        if not keys_file.is_file():
            raise FileNotFoundError(f"{keys_file} is missing; restore it or build the store again")
        keys = read_json(keys_file)
        if len(keys) != shard["rows"]:
            raise ValueError(
                f"{keys_file} has {len(keys)} keys, expected {shard['rows']}; build the store again"
            )
        tables[shard["kind"]].append(keys, *mapped)
    return tables


def _check_teacher(path: Path, fingerprint: str, name: str, teacher: Teacher | TeacherEnsemble | str) -> None:
    asked = teacher if isinstance(teacher, str) else teacher.fingerprint
    if asked != fingerprint:
        who = "" if isinstance(teacher, str) else f" ({teacher.name})"
        raise ValueError(
            f"store {path} was made by {fingerprint} ({name}), but the teacher asked for is {asked}{who}: "
            "other weights, precision, image transform or tokenizer; load that teacher or build another store"
        )


def _lock(path: Path):
    """Hold the folder's write lock as an open file; it falls with the process, however that ends."""
    file = open(path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise BlockingIOError(f"store {path} is being written by {holder}; wait for it or end it") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file
