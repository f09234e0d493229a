"""Sentences in text files of any size, one a line, by random access: of each line is kept where it begins."""

import gzip
import json
import shutil
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cliptd.data.cache import derived_file
from cliptd.data.identity import identity_of_files
from cliptd.data.pairs import OnBadSample

VERSION = 1
BLOCK = 1 << 24
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
STARTS, WRONG = "starts.u64", "wrong.json"


class TextLines:
    """Map-style data set of the lines of UTF-8 text files that are not blank.

    The first start reads the files once, some gigabytes a minute, and keeps 8 bytes a line in the cache; of a gzip'ed
    file, which has no random access, also the text.

    pattern: a path, or one with * or ?, .txt or .txt.gz.
    on_bad_sample: "raise" at a line that is no UTF-8, or "skip": leave such lines out and list them in `skipped`.

    Raises FileNotFoundError for no file, ValueError for one that is no UTF-8 or holds no text.
    """

    def __init__(self, pattern: str | Path, *, on_bad_sample: OnBadSample = "raise") -> None:
        self.name, self.on_bad_sample = str(pattern), on_bad_sample
        wild = any(mark in self.name for mark in "*?[")
        files = [Path(name) for name in (sorted(glob(self.name)) if wild else [self.name])]
        for file in files or [Path(self.name)]:
            if not file.is_file():
                raise FileNotFoundError(f"{file}: no such file; expected sentences, one a line")
        self.identity = identity_of_files(files)
        self.skipped: list[str] = []
        self._files: list[Path] = []
        self._starts: list[np.ndarray] = []
        for file in files:
            plain = derived_file("text", _unpack(file), [file]) if file.suffix == ".gz" else file
            index = derived_file(STARTS, _index(plain), [plain], version=VERSION)
            wrong = json.loads(index.with_name(WRONG).read_text())
            self.skipped += [f"{file}:{number}: is no UTF-8" for number in wrong]
            self._files.append(plain)
            empty = not index.stat().st_size  # which cannot be mapped
            self._starts.append(np.zeros(0, np.uint64) if empty else np.memmap(index, np.uint64, "r"))
        if self.skipped and on_bad_sample == "raise":
            raise ValueError(f"{self.skipped[0]} ({len(self.skipped)} such); expected a sentence a line")
        self._ends = np.cumsum([len(starts) for starts in self._starts])
        if not len(self):
            raise ValueError(f"{self.name}: holds no text; expected sentences, one a line")

    def __reduce__(self):
        return _again, (self.name, self.on_bad_sample)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"sentence {index} of {len(self)}")
        return self.part(index, index + 1)[0]

    def part(self, start: int, stop: int) -> list[str]:
        """The texts from start to before stop."""
        texts: list[str] = []
        for file, starts, end in zip(self._files, self._starts, self._ends, strict=True):
            first = int(end) - len(starts)
            own = starts[max(start - first, 0) : max(stop - first, 0)]
            if len(own):
                texts += _lines(file, own)
        return texts


def _again(name: str, on_bad_sample: OnBadSample) -> TextLines:
    return TextLines(name, on_bad_sample=on_bad_sample)


def _lines(file: Path, starts: np.ndarray) -> Iterator[str]:
    """Neighbouring lines; what was left out between them is read over."""
    begin = int(starts[0])
    with file.open("rb") as opened:
        opened.seek(begin)
        content = opened.read(int(starts[-1]) - begin) + opened.readline()
    offsets = (starts - starts[0]).tolist()
    for offset, following in zip(offsets, [*offsets[1:], len(content)], strict=True):
        yield content[offset:following].partition(b"\n")[0].decode("utf-8").strip()


def _unpack(file: Path):
    def write(path: Path) -> None:
        with gzip.open(file, "rb") as packed, path.open("wb") as plain:
            try:
                shutil.copyfileobj(packed, plain, BLOCK)
            except (OSError, EOFError) as error:
                raise ValueError(f"{file}: cannot be unpacked ({error}); get it anew") from None

    return write


def _index(file: Path):
    """A function that writes where the lines that count begin, and beside it the numbers of those that are no UTF-8."""

    def write(path: Path) -> None:
        wrong: list[int] = []
        numbered = 0
        with file.open("rb") as text, path.open("wb") as index:
            begin = len(BYTE_ORDER_MARK) if text.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK else 0
            text.seek(begin)
            for block in _blocks(text):
                ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
                starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
                kept = _not_blank(block, starts, ends)
                try:
                    block.decode("utf-8")
                except UnicodeDecodeError:
                    for line in np.flatnonzero(kept):
                        try:
                            block[starts[line] : ends[line]].decode("utf-8")
                        except UnicodeDecodeError:
                            kept[line] = False
                            wrong.append(numbered + int(line) + 1)
                (starts[kept] + begin).astype(np.uint64).tofile(index)
                begin += len(block)
                numbered += len(starts)
        path.with_name(WRONG).write_text(json.dumps(wrong))

    return write


def _blocks(text: BinaryIO) -> Iterator[bytes]:
    """Whole lines, the last one with a newline though the file may have none there."""
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
    """Of each line, whether anything in it is to be seen."""
    found = np.frombuffer(block, np.uint8)
    visible = np.add.reduceat((found > 32) & (found < 127), starts, dtype=np.int32) > 0
    other = np.add.reduceat(found > 127, starts, dtype=np.int32) > 0
    for line in np.flatnonzero(
        other & ~visible
    ):  # letters of other scripts, or spaces that ASCII does not have
        visible[line] = bool(block[starts[line] : ends[line]].decode("utf-8", "replace").strip())
    return visible
