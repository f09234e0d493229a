"""Write a store: the teacher computes the embeddings that it lacks, and they are kept in shards."""

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cliptd.data.images import AnyImage
from cliptd.store.reader import (
    FORMAT_VERSION,
    KINDS,
    TeacherStore,
    check_teacher,
    mean_of,
    read_index,
    read_tables,
)
from cliptd.store.shards import STORED_AS, from_stored, map_shard, to_stored, write_shard
from cliptd.store.source import encode_images
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.similarity import Similarity
from cliptd.teachers.teacher import Teacher
from cliptd.utils.files import PARTIAL, write_atomically
from cliptd.utils.finite import check_finite
from cliptd.utils.locks import take_lock
from cliptd.utils.run_folder import refuse_other_settings


class StoreWriter(Similarity):
    """A source that computes the embeddings that its store lacks, and keeps them in shards, each written atomically.

    If the process is killed, a new writer goes on from the complete shards. Close the writer, or use `with`, to write
    the last shard.

    Args:
        path: the store's folder, which is made if it is missing. Only one writer may have it open.
        teacher: the teacher of the embeddings.
        dtype: "float16", "bfloat16" or "float32".
        shard_size: rows per shard.

    Raises:
        ValueError: the store is damaged, of another teacher or of another dtype.
        BlockingIOError: another process writes the store.
        OSError: the platform is neither Linux nor macOS, so nothing keeps a second writer away.
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
        self._lock = take_lock(self.path / ".lock", f"store {self.path}")
        try:
            self._index = self._resume()
            self._tables = read_tables(self.path, self._index)
        except Exception:
            self._lock.close()
            raise
        self._pending: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def image_embeds(self, keys: Sequence[str], images: Sequence["AnyImage | None"]) -> Tensor:
        """Return (n, dim) of unit length. `images[i]` is opened only if the store lacks `keys[i]`."""
        return self._embeds("images", keys, images)

    def region_embeds(self, keys: Sequence[str], regions: Sequence["AnyImage | None"]) -> Tensor:
        """Return (n, dim) of unit length. `regions[i]` is opened only if the store lacks `keys[i]`."""
        return self._embeds("regions", keys, regions)

    def _embeds(self, kind: str, keys: Sequence[str], images: Sequence["AnyImage | None"]) -> Tensor:
        if len(keys) != len(images):
            raise ValueError(f"{len(keys)} keys for {len(images)} {kind}; expected one each")
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = [key for key in dict.fromkeys(keys) if not self._has(kind, key)]
        for batch in self._batches(missing):
            self._add(kind, batch, encode_images(self.teacher, batch, [images[first[key]] for key in batch]))
        return self._read(kind, keys)

    def lacks(self, image_key: str) -> bool:
        """Return whether the store lacks the image."""
        return not self._has("images", image_key)

    def absorb(self, store: TeacherStore) -> None:
        """Copy the embeddings that this store lacks from another store of this teacher."""
        for kind in KINDS:
            keys = getattr(store, kind)
            while some := list(itertools.islice(keys, 4096)):
                missing = [key for key in dict.fromkeys(some) if not self._has(kind, key)]
                self._add(kind, missing, getattr(store, f"{kind.removesuffix('s')}_embeds")(missing))

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        """Return (n, dim) of unit length. Texts that the store lacks are encoded."""
        missing = [text for text in dict.fromkeys(texts) if not self._has("texts", text)]
        for batch in self._batches(missing):
            encoded = check_finite(self.teacher.encode_texts(batch).cpu(), "text", batch, self.name)
            self._add("texts", batch, encoded)
        return self._read("texts", texts)

    def image_mean(self) -> Tensor:
        """Return (dim,), the mean of all images of the store, which is flushed first. Raises ValueError if empty."""
        self.flush()
        return mean_of(self._tables["images"], self.path)

    def flush(self) -> None:
        """Write the pending embeddings now, as shards that may be small."""
        for kind in KINDS:
            while self._pending[kind]:
                self._write(kind)

    def close(self) -> None:
        """Write the pending embeddings and release the folder. A second call does nothing."""
        if not self._lock.closed:
            try:
                self.flush()
            finally:
                self._lock.close()

    def _has(self, kind: str, key: str) -> bool:
        return key in self._pending[kind] or key in self._tables[kind]

    def _batches(self, keys: list[str]) -> Iterator[list[str]]:
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
        size = (self.path / f"{stem}.json").stat().st_size
        self._index["shards"].append({"kind": kind, "stem": stem, "rows": len(keys), "keys_bytes": size})
        write_atomically(self.path / "index.json", json.dumps(self._index, indent=1).encode())
        table.append(
            keys, map_shard(self.path / f"{stem}.safetensors", self.dtype, len(keys), self.embed_dim)
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

    def _resume(self) -> dict[str, Any]:
        for leftover in self.path.glob(f"*{PARTIAL}"):
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
        index = read_index(self.path)
        check_teacher(self.path, index["fingerprint"], index["teacher"], self.teacher)
        refuse_other_settings(
            self.path,
            {"dtype": index["dtype"]},
            {"dtype": self.dtype},
            holds="embeddings of another type",
            remedy="give the writer the store's dtype, or use another folder",
        )
        return index


def absorb_parts(path: Path, teacher: Teacher | TeacherEnsemble) -> None:
    """Copy the stores that processes wrote for themselves, `path`/part-*, into the store, and delete them."""
    parts = sorted(path.glob("part-*"))
    if not parts:
        return
    with StoreWriter(path, teacher) as writer:
        for part in parts:
            if (part / "index.json").exists():
                writer.absorb(TeacherStore.open(part, teacher))
    for part in parts:
        shutil.rmtree(part)
