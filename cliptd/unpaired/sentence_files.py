"""Sentences in text files of any size, one per line, by random access through an index of the lines' first bytes."""

import gzip
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cliptd.data.files.cache import derived_file
from cliptd.data.identity import identity_of_files, state_of_files
from cliptd.data.pairs.pair import OnBadSample

VERSION = 2
BLOCK = 1 << 24
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
STARTS, FOUND = "starts.u64", "found.json"


class TextLines:
    """A map-style data set of the lines of UTF-8 text files, without the blank lines.

    The first use reads the files once, some gigabytes a minute, and keeps 8 bytes per line in the cache. A gzip'ed file
    has no random access, so its text is kept in the cache too.

    Args:
        pattern: a path, or a pattern with *, ? or [, of .txt or .txt.gz files.
        on_bad_sample: "raise" at a line that is not UTF-8, or "skip" such lines and list them in `skipped`.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: a line is not UTF-8, or there is no text.
    """

    def __init__(self, pattern: str | Path, *, on_bad_sample: OnBadSample = "raise") -> None:
        self.name, self.on_bad_sample = str(pattern), on_bad_sample
        wild = any(mark in self.name for mark in "*?[")
        files = [Path(name) for name in (sorted(glob(self.name)) if wild else [self.name])]
        for file in files or [Path(self.name)]:
            if not file.is_file():
                raise FileNotFoundError(f"{file}: no such file; expected one sentence per line")
        self.identity = identity_of_files(files)
        self.state = state_of_files(files)
        self._files = [
            derived_file("text", _unpack(file), [file]) if file.suffix == ".gz" else file for file in files
        ]
        index = derived_file(STARTS, _index(self._files), self._files, version=VERSION)
        found = json.loads(index.with_name(FOUND).read_text())
        self.skipped = [f"{files[k]}:{number}: is not UTF-8" for k, number in found["wrong"]]
        if self.skipped and on_bad_sample == "raise":
            raise ValueError(
                f"{self.skipped[0]} ({len(self.skipped)} such); expected one sentence per line, so convert the file to "
                "UTF-8 or skip such lines"
            )
        self._ends = np.cumsum(found["lines"])
        if not len(self):
            raise ValueError(f"{self.name}: holds no text; expected one sentence per line")
        self._starts = np.memmap(index, np.uint64, "r")  # one for all, because each keeps a file open

    def __reduce__(self) -> tuple[Callable[..., "TextLines"], tuple[str, OnBadSample]]:
        return _again, (self.name, self.on_bad_sample)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"sentence {index} of {len(self)}")
        return self.part(index, index + 1)[0]

    def part(self, start: int, stop: int) -> list[str]:
        """Return the texts from start to before stop."""
        start, stop = max(start, 0), min(stop, len(self))
        texts: list[str] = []
        while start < stop:
            number = int(np.searchsorted(self._ends, start, side="right"))
            end = min(stop, int(self._ends[number]))
            texts += _lines(self._files[number], self._starts[start:end])
            start = end
        return texts


def _again(name: str, on_bad_sample: OnBadSample) -> TextLines:
    return TextLines(name, on_bad_sample=on_bad_sample)


def _lines(file: Path, starts: np.ndarray) -> Iterator[str]:
    """Yield the lines that begin at `starts`, without skipped and blank lines between them."""
    begin = int(starts[0])
    with file.open("rb") as opened:
        opened.seek(begin)
        content = opened.read(int(starts[-1]) - begin) + opened.readline()
    offsets = (starts - starts[0]).tolist()
    for offset, following in zip(offsets, [*offsets[1:], len(content)], strict=True):
        yield content[offset:following].partition(b"\n")[0].decode("utf-8").strip()


def _unpack(file: Path) -> Callable[[Path], None]:
    """Return a function that writes the text of a gzip'ed file to a path."""

    def write(path: Path) -> None:
        with gzip.open(file, "rb") as packed, path.open("wb") as plain:
            try:
                shutil.copyfileobj(packed, plain, BLOCK)
            except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                raise ValueError(f"{file}: cannot be unpacked ({error}); download it again") from None

    return write


def _index(files: Sequence[Path]) -> Callable[[Path], None]:
    """Return a function that writes the index of the files' lines to a path, and found.json beside it.

    The index holds the first byte of each line that is not blank, one file after the other. found.json holds how many
    lines each file has, and (file, number) of the lines that are no UTF-8.
    """

    def write(path: Path) -> None:
        lines: list[int] = []
        wrong: list[tuple[int, int]] = []
        with path.open("wb") as index:
            for number, file in enumerate(files):
                lines.append(0)
                for starts, not_utf8 in _starts_in(file):
                    starts.astype(np.uint64).tofile(index)
                    lines[-1] += len(starts)
                    wrong += [(number, line) for line in not_utf8]
        path.with_name(FOUND).write_text(json.dumps({"lines": lines, "wrong": wrong}))

    return write


def _starts_in(file: Path) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield for each block of a file the first bytes of its lines, and the numbers of lines that are no UTF-8."""
    numbered = 0
    with file.open("rb") as text:
        begin = len(BYTE_ORDER_MARK) if text.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK else 0
        text.seek(begin)
        for block in _blocks(text):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
            kept = _not_blank(block, starts, ends)
            wrong = []
            if not _is_utf8(block):
                wrong = [k for k in np.flatnonzero(kept).tolist() if not _is_utf8(block[starts[k] : ends[k]])]
                kept[wrong] = False
            yield starts[kept] + begin, [numbered + line + 1 for line in wrong]
            begin += len(block)
            numbered += len(starts)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _blocks(text: BinaryIO) -> Iterator[bytes]:
    """Yield blocks of whole lines. The last line always ends with a newline."""
    rest = b""
    while part := text.read(BLOCK):
        whole, newline, rest_of_part = part.rpartition(b"\n")
        if newline:
            yield rest + whole + newline
            rest = rest_of_part
        else:
            rest += part
    if rest:
        yield rest + b"\n"


def _not_blank(block: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return for each line whether it holds anything but white space."""
    found = np.frombuffer(block, np.uint8)
    visible = np.add.reduceat((found > 32) & (found < 127), starts, dtype=np.int32) > 0
    other = np.add.reduceat(found > 127, starts, dtype=np.int32) > 0
    # what is left is letters of other scripts, or spaces that ASCII lacks
    for line in np.flatnonzero(other & ~visible):
        visible[line] = bool(block[starts[line] : ends[line]].decode("utf-8", "replace").strip())
    return visible
