"""Read the store of a teacher's embeddings, memory-mapped. `cliptd.store.writer` writes it.

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
from cliptd.teachers.similarity import Similarity
from cliptd.teachers.teacher import Teacher
from cliptd.utils.files import read_json
from cliptd.utils.finite import check_finite

FORMAT_VERSION = 2
KINDS = ("images", "regions", "texts")


class StoreMissError(KeyError):
    """An error for an image, region or text, `key` of `kind`, that a read-only store does not hold."""

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
    """A store's embeddings, read-only and memory-mapped. Forked and spawned workers may share it.

    `store.images`, `store.regions` and `store.texts` yield the keys that it holds. `len(store)` counts all of them.
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
        """Open the store in folder `path`.

        Args:
            teacher: the teacher, or its fingerprint, that must have made the store. None: any.

        Raises:
            FileNotFoundError: there is no store, or a file of it is missing.
            ValueError: a file is damaged, or another teacher made the store.
        """
        store = cls(path)
        if teacher is not None:
            check_teacher(store.path, store.fingerprint, store.name, teacher)
        return store

    @property
    def identity(self) -> str:
        """Return the type of the numbers and 16 hex digits of the images, over which the mean is taken."""
        images = self._tables["images"]
        return f"{self.dtype} store of {len(images)} images sha256:{images.index.digest()}"

    def __reduce__(self) -> tuple[type["TeacherStore"], tuple[Path]]:
        return TeacherStore, (self.path,)

    def __len__(self) -> int:
        return sum(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of images, regions and texts."""
        return {kind: len(table) for kind, table in self._tables.items()}

    @property
    def images(self) -> Iterator[str]:
        """Yield the keys of the images."""
        return self._keys("images")

    @property
    def regions(self) -> Iterator[str]:
        """Yield the keys of the regions."""
        return self._keys("regions")

    @property
    def texts(self) -> Iterator[str]:
        """Yield the texts."""
        return self._keys("texts")

    def _keys(self, kind: str) -> Iterator[str]:
        """Yield the keys of a kind, one shard after another, from their files."""
        for shard in self._shards:
            if shard["kind"] == kind:
                yield from read_json(self.path / f"{shard['stem']}.json", "build the store again")

    def lacks(self, key: str, kind: str = "images") -> bool:
        """Return whether the store lacks the image `key`, or the key of another `kind` ("regions" or "texts")."""
        return key not in self._tables[kind]

    def image_embeds(self, keys: Sequence[str], images: Sequence["AnyImage | None"] = ()) -> Tensor:
        """Return (n, dim) of unit length. Raises StoreMissError for a key that is not there."""
        return self._look_up("images", keys)

    def region_embeds(self, keys: Sequence[str], regions: Sequence["AnyImage | None"] = ()) -> Tensor:
        """Return (n, dim) of unit length. Raises StoreMissError for a key that is not there."""
        return self._look_up("regions", keys)

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        """Return (n, dim) of unit length. Raises StoreMissError for a text that is not there."""
        return self._look_up("texts", texts)

    def image_mean(self) -> Tensor:
        """Return (dim,), the mean of all images of the store. Raises ValueError if there are none."""
        return mean_of(self._tables["images"], self.path)

    def _look_up(self, kind: str, keys: Sequence[str]) -> Tensor:
        table = self._tables[kind]
        try:
            rows = table.find(keys)
        except KeyError as error:
            raise StoreMissError(self.path, kind, error.args[0], len(table)) from None
        return check_finite(table.gather(rows), kind.removesuffix("s"), keys, f"store {self.path}")


def mean_of(table: Table, path: Path) -> Tensor:
    """Return (dim,), the mean of all rows of a table. Raises ValueError if it has none."""
    if not len(table):
        raise ValueError(f"store {path} holds no image, so it has no image_mean; add images first")
    return torch.from_numpy(table.sums / len(table)).float()


def read_index(path: Path) -> dict[str, Any]:
    """Read a store's index.json. Raises FileNotFoundError if there is none, ValueError for another format."""
    if not (path / "index.json").is_file():
        raise FileNotFoundError(
            f"{path} is not a store: it has no index.json; build it with scripts/build_store.py"
        )
    index = read_json(path / "index.json", "build the store again")
    version = index.get("format_version") if isinstance(index, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path / 'index.json'} has format_version {version}, expected {FORMAT_VERSION}; build the store again"
        )
    return index


def read_tables(path: Path, index: dict[str, Any]) -> dict[str, Table]:
    """Map the shards that the index names, as a table of each kind.

    Raises FileNotFoundError for a missing shard, ValueError for a damaged one.
    """
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
    """Refuse a store of another teacher. Raises ValueError naming both fingerprints."""
    asked = teacher if isinstance(teacher, str) else teacher.fingerprint
    if asked != fingerprint:
        who = "" if isinstance(teacher, str) else f" ({teacher.name})"
        raise ValueError(
            f"store {path} was made by {fingerprint} ({name}), but the teacher asked for is {asked}{who}: "
            "other weights, precision, image transform or tokenizer; load that teacher or build another store"
        )
