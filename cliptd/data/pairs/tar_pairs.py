"""Webdataset shards (tars of jpg, txt, json) by random access, so that order and resume are exact.

The headers of the shards are read once. The places of all samples go into a table, which later starts map into memory.

A resumed run sees exactly the same samples, with any number of workers and processes that divide the batch. Shards with
other names or sizes are refused, but another shard of the same name and size is not noticed. Shards must be on a local
or mounted disk. Shards that come through a pipe or are compressed have no random access, so they are refused.
"""

import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
from PIL import Image

from cliptd.data.files.tables import TableDataset, cached_table
from cliptd.data.files.text_files import decode
from cliptd.data.identity import identity_of_files, state_of_files
from cliptd.data.images import as_rgb
from cliptd.data.pairs.pair import IMAGE_SUFFIXES, OnBadSample, Pair

TABLE_VERSION = 3
BLOCK = tarfile.BLOCKSIZE
FEATURES = datasets.Features(
    {
        "shard": datasets.Value("int32"),
        "key": datasets.Value("string"),
        "image_offset": datasets.Value("int64"),
        "image_size": datasets.Value("int64"),
        "text_offset": datasets.Value("int64"),
        "text_size": datasets.Value("int64"),
        "text_is_json": datasets.Value("bool"),
        "reason": datasets.Value("string"),
    }
)


def shards_of(pattern: str) -> list[Path]:
    """Return the files of a pattern with {000..012}, {a,b}, * or ?. Those of a wildcard are sorted.

    Raises FileNotFoundError for a missing shard, ValueError for a compressed one.

    >>> [str(path) for path in _braces("s/{08..10}.{a,b}")]
    ['s/08.a', 's/08.b', 's/09.a', 's/09.b', 's/10.a', 's/10.b']
    """
    paths: list[Path] = []
    for name in _braces(pattern):
        found = sorted(glob(name)) if any(mark in name for mark in "*?[") else [name]
        if not found or not Path(found[0]).is_file():
            raise FileNotFoundError(f"shard {name} does not exist (of {pattern})")
        paths += map(Path, found)
    for path in paths:
        if path.name.endswith((".gz", ".tgz")):
            raise ValueError(
                f"shard {path} is compressed, so its samples cannot be reached one by one; unpack it: gunzip"
            )
    return paths


def _braces(pattern: str) -> Iterator[str]:
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[part] if k % 2 == 0 else _choices(part) for k, part in enumerate(parts)]
    return map("".join, itertools.product(*choices))


def _choices(braced: str) -> list[str]:
    limits = re.fullmatch(r"(\d+)\.\.(\d+)", braced)
    if limits is None:
        return braced.split(",")
    first, last = limits.groups()
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


@dataclass(frozen=True)
class TarImage:
    """The image of a sample, called to open it in RGB. A corrupt image raises ValueError naming shard and sample."""

    shard: Path
    key: str
    offset: int
    size: int

    def __call__(self) -> Image.Image:
        try:
            with Image.open(io.BytesIO(self.read_bytes())) as image:
                image.load()
                return as_rgb(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"shard {self.shard}, sample {self.key}: image is corrupt ({error}); replace the shard, or skip such "
                "samples"
            ) from error

    def read_bytes(self) -> bytes:
        """Return the bytes of the image file."""
        return read_member(self.shard, self.offset, self.size)


class TarSamples(TableDataset):
    """The samples of uncompressed tars, in the order of the shards.

    The members of a sample have the same name up to the first dot, and are neighbours in the tar.

    needs: the parts that a sample must have: "image", "text" (a .txt, or a .json with `text_column`) or both.
    on_bad_sample: "raise" at a sample without them and at a shard that ends early, or "skip" such samples and list them
        in `skipped`.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        needs: Sequence[str],
        *,
        text_column: str = "caption",
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        self.shards, self.text_column = list(shards), text_column
        if not self.shards:
            raise ValueError("shards is empty, expected at least one .tar")
        table = cached_table(
            _rows, tuple(self.shards), FEATURES, version=TABLE_VERSION, needs=tuple(sorted(needs))
        )
        super().__init__(self.shards[0], table, on_bad_sample=on_bad_sample)
        self.resolved = [shard.resolve() for shard in self.shards]  # once, as links are looked up on the disk
        self.identity = f"{identity_of_files(self.shards)}, {text_column}"
        self.state = state_of_files(self.resolved, sorted(needs), text_column)

    def image(self, row: dict[str, Any]) -> TarImage:
        """Return the image of a row, not opened yet."""
        return TarImage(self.shards[row["shard"]], row["key"], row["image_offset"], row["image_size"])

    def text(self, row: dict[str, Any]) -> str:
        """Return the text of a row. Raises ValueError if it is empty or the .json has none."""
        shard = self.shards[row["shard"]]
        where = f"shard {shard}, sample {row['key']}"
        text = decode(read_member(shard, row["text_offset"], row["text_size"]), where).strip()
        if row["text_is_json"]:
            text = self._of_json(text, where)
        if not text:
            raise ValueError(f"{where}: its text is empty")
        return text

    def key(self, row: dict[str, Any]) -> str:
        """Return the key of a row, which begins with the path of its shard."""
        return f"{self.resolved[row['shard']]}/{row['key']}"

    def _of_json(self, text: str, where: str) -> str:
        try:
            found = json.loads(text)
            return found[self.text_column].strip()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{where}: has no .txt, and its .json no text under {self.text_column!r}; name its text column"
            ) from None


class TarPairs(TarSamples):
    """A map-style dataset of `Pair`s. Arguments and errors are those of `TarSamples`."""

    def __init__(
        self, shards: Sequence[Path], *, text_column: str = "caption", on_bad_sample: OnBadSample = "raise"
    ) -> None:
        super().__init__(shards, ("image", "text"), text_column=text_column, on_bad_sample=on_bad_sample)

    def __getitem__(self, position: int) -> Pair:
        row = self.row(position)
        return Pair(self.key(row), self.image(row), self.text(row))


def read_member(shard: Path, offset: int, size: int) -> bytes:
    """Read bytes of a shard. Raises ValueError if the shard is shorter."""
    with shard.open("rb") as file:
        file.seek(offset)
        found = file.read(size)
    if len(found) != size:
        raise ValueError(f"shard {shard} ends early; download it again")
    return found


def _rows(files: tuple[str, ...], needs: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for number, path in enumerate(files):
        for key, members in itertools.groupby(members_of(Path(path)), key=lambda member: member[0]):
            row: dict[str, Any] = dict.fromkeys(FEATURES) | {"shard": number, "key": key}
            for _, suffix, offset, size in members:
                if suffix in IMAGE_SUFFIXES:
                    row |= {"image_offset": offset, "image_size": size}
                elif suffix == ".txt" or (suffix == ".json" and row["text_offset"] is None):
                    row |= {"text_offset": offset, "text_size": size, "text_is_json": suffix == ".json"}
                elif suffix == EARLY_END:
                    row["reason"] = (
                        f"shard {path} is cut short, damaged or not a tar, at or after sample {key}; download it again"
                    )
            if row["reason"] is None:
                lacking = [name for name in needs if row[f"{name}_offset"] is None]
                if lacking:
                    row["reason"] = f"shard {path}, sample {key}: has no {' and no '.join(lacking)}"
            yield row


EARLY_END = "early end"


def members_of(path: Path) -> Iterator[tuple[str, str, int, int]]:
    """Yield (sample key, lower-case suffix, offset, size) of every file of a tar.

    The suffix is EARLY_END if the tar is cut short, or if anything but zeros follows the end that tarfile finds. The
    latter happens after a damaged header, and if another tar was appended.
    """
    key, whole = "(none)", path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            end = 0
            for member in tar:
                end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                stem, dot, rest = name.name.partition(".")
                key = str(name.parent / stem)
                if end > whole:
                    break
                yield key, f"{dot}{rest}".lower(), member.offset_data, member.size
                tar.members.clear()  # type: ignore[attr-defined]  # or it would keep every header; typeshed lacks it
        if _only_zeros(path, end):
            return
    except tarfile.TarError:
        pass  # the next bytes are not the header of a file
    yield key, EARLY_END, 0, 0


def _only_zeros(path: Path, start: int) -> bool:
    """Return whether the rest of a file is at least a block of zeros, as at the end of a tar, and nothing else."""
    found = 0
    with path.open("rb") as file:
        file.seek(start)
        while part := file.read(1 << 20):
            if part.strip(b"\0"):
                return False
            found += len(part)
    return found >= BLOCK
