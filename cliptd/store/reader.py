"""The teacher's knowledge on disk: `TeacherStore` reads it, memory-mapped; `cliptd.store.writer` adds what is
missing.

A store folder holds `index.json` and shards (`cliptd.store.shards`). In float16, its default, a stored element
differs from the teacher's by at most 2⁻¹¹·|x| + 2⁻²⁵.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliptd.data.images import AnyImage
from cliptd.store.shards import Table, map_shard
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Similarity, Teacher
from cliptd.utils.files import read_json
from cliptd.utils.finite import check_finite

FORMAT_VERSION = 2
KINDS = ("images", "regions", "texts")


class StoreMissError(KeyError):
    """An image or text that a read-only store does not hold; `kind` and `key` say which."""

    def __init__(self, path: Path, kind: str, key: str, count: int):
        thing = kind.removesuffix("s")
        self.path, self.kind, self.key = path, kind, key
        super().__init__(
            f"store {path} has no {thing} {key!r} (it has {count} {kind}); add it with "
            f"`python scripts/build_store.py --task … --out {path} -- …` or StoreWriter(path, teacher).{thing}_embeds"
        )

    def __str__(self) -> str:
        return self.args[0]


class TeacherStore(Similarity):
    """A store's embeddings, read-only and memory-mapped; forked and spawned workers may share it.

    `store.images`, `store.regions` and `store.texts` are the keys it holds; `len(store)` counts all.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        index = read_index(self.path)
        self.fingerprint: str = index["fingerprint"]
        self.name: str = index["teacher"]
        self.dtype: str = index["dtype"]
        self.embed_dim: int = index["embed_dim"]
        self.logit_scale: float = index["logit_scale"]
        self.logit_bias: float | None = index["logit_bias"]
        self._shards: list[dict[str, Any]] = index["shards"]
        self._tables = read_tables(self.path, index)

    @classmethod
    def open(cls, path: str | Path, teacher: Teacher | TeacherEnsemble | str | None = None) -> "TeacherStore":
        """Open the store in folder `path`, and refuse it if it was not made by `teacher` (or that
        fingerprint).

        Raises: FileNotFoundError, ValueError for a damaged file or another fingerprint.
        """
        store = cls(path)
        if teacher is not None:
            check_teacher(store.path, store.fingerprint, store.name, teacher)
        return store

    @property
    def identity(self) -> str:
        """What a run reads of it besides the teacher: how it is rounded, and which images its mean is over."""
        images = self._tables["images"]
        return f"{self.dtype} store of {len(images)} images sha256:{images.index.digest()}"

    def __reduce__(self) -> tuple[type["TeacherStore"], tuple[Path]]:
        return TeacherStore, (self.path,)

    def __len__(self) -> int:
        return sum(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """How many images, regions and texts it holds."""
        return {kind: len(table) for kind, table in self._tables.items()}

    @property
    def images(self) -> Iterator[str]:
        return self._keys("images")

    @property
    def regions(self) -> Iterator[str]:
        return self._keys("regions")

    @property
    def texts(self) -> Iterator[str]:
        return self._keys("texts")

    def _keys(self, kind: str) -> Iterator[str]:
        """A shard's at a time, read from its file."""
        for shard in self._shards:
            if shard["kind"] == kind:
                yield from read_json(self.path / f"{shard['stem']}.json", "build the store again")

    def lacks(self, key: str, kind: str = "images") -> bool:
        """Whether it holds no such image, or region or text."""
        return key not in self._tables[kind]

    def image_embeds(self, keys: Sequence[str], images: Sequence["AnyImage | None"] = ()) -> Tensor:
        return self._look_up("images", keys)

    def region_embeds(self, keys: Sequence[str], regions: Sequence["AnyImage | None"] = ()) -> Tensor:
        return self._look_up("regions", keys)

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        return self._look_up("texts", texts)

    def image_mean(self) -> Tensor:
        return mean_of(self._tables["images"], self.path)

    def _look_up(self, kind: str, keys: Sequence[str]) -> Tensor:
        table = self._tables[kind]
        try:
            rows = table.find(keys)
        except KeyError as error:
            raise StoreMissError(self.path, kind, error.args[0], len(table)) from None
        return check_finite(table.gather(rows), kind.removesuffix("s"), keys, f"store {self.path}")


def mean_of(table: Table, path: Path) -> Tensor:
    """(dim,) mean of all rows of a table."""
    if not len(table):
        raise ValueError(f"store {path} holds no image, so it has no image_mean; add images first")
    return torch.from_numpy(table.sums / len(table)).float()


def read_index(path: Path) -> dict[str, Any]:
    """A store's index.json, refused where there is none or it is of another format."""
    if not (path / "index.json").is_file():
        raise FileNotFoundError(
            f"{path} is not a store: it has no index.json; build it with scripts/build_store.py"
        )
    index = read_json(path / "index.json", "build the store again")
    version = index.get("format_version") if isinstance(index, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path / 'index.json'} has format_version {version}, expected {FORMAT_VERSION}; build it again"
        )
    return index


def read_tables(path: Path, index: dict[str, Any]) -> dict[str, Table]:
    """A table of each kind over the shards that the index names; a shard that is not whole is refused."""
    tables = {kind: Table(index["dtype"], index["embed_dim"]) for kind in KINDS}
    for kind, table in tables.items():
        shards = []
        for shard in (shard for shard in index["shards"] if shard["kind"] == kind):
            file = path / f"{shard['stem']}.safetensors"
            shards.append(map_shard(file, index["dtype"], shard["rows"], index["embed_dim"]))
            keys = file.with_suffix(".json")
            if not keys.is_file():
                raise FileNotFoundError(f"{keys} is missing; restore it or build the store again")
            if keys.stat().st_size != shard["keys_bytes"]:
                raise ValueError(
                    f"{keys} has {keys.stat().st_size} bytes, expected {shard['keys_bytes']}; build the store again"
                )
        table.extend(shards)
    return tables


def check_teacher(path: Path, fingerprint: str, name: str, teacher: Teacher | TeacherEnsemble | str) -> None:
    """Refuse a store of another teacher, naming both fingerprints."""
    asked = teacher if isinstance(teacher, str) else teacher.fingerprint
    if asked != fingerprint:
        who = "" if isinstance(teacher, str) else f" ({teacher.name})"
        raise ValueError(
            f"store {path} was made by {fingerprint} ({name}), but the teacher asked for is {asked}{who}: "
            "other weights, precision, image transform or tokenizer; load that teacher or build another store"
        )
