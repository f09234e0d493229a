"""Random access to a JSON-lines file of any size."""

import json
import os
import warnings
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

T = TypeVar("T")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonLines:
    """The objects of a .jsonl file by number: `len(lines)`, `lines[i]`, iteration.

    The file is streamed once to find the start of each line, and only these offsets are held (8 bytes for each line).
    Threads and forked or spawned loader processes may share it. Blank lines are skipped without a number. A byte-order
    mark and Windows line ends are accepted.

    Args:
        path: a UTF-8 file with one JSON object per line.
        parse: makes the value of `lines[i]` of an object (dict). Its ValueError, KeyError, IndexError or TypeError is
            reported with file and line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the last line is cut off (when the file is opened), or a line is not a JSON object (when it is
            read). The message names file and line.
    """

    def __init__(self, path: str | Path, parse: Callable[[dict[str, Any]], Any] | None = None):
        self.path = Path(path)
        self.parse = parse
        self._offsets = array("Q")  # the start of each line, then the end of the last one
        self._blanks = array("Q")  # for every blank line, the number of lines before it
        self._file: BinaryIO | None = None
        try:
            with self.path.open("rb") as file:
                self._index(file)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise FileNotFoundError(
                f"{self.path}: no such file, expected one JSON object per line"
            ) from error

    def _index(self, file: BinaryIO) -> None:
        offset = len(BYTE_ORDER_MARK) if file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK else 0
        file.seek(offset)
        line = b"\n"
        for line in file:
            if line.strip():
                self._offsets.append(offset)
            else:
                self._blanks.append(len(self._offsets))
            offset += len(line)
        self._offsets.append(offset)
        if len(self) and not line.endswith(b"\n"):
            self.raw(len(self) - 1)  # a download cut off inside the last line is noticed now, not hours later

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> Any:
        value = self.raw(index)
        if self.parse is None:
            return value
        try:
            return self.parse(value)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{self.where(index)}: {what}") from error

    def raw(self, index: int) -> dict[str, Any]:
        """Return the JSON object of a line, without `parse`."""
        index = self._checked(index)
        start, stop = self._offsets[index], self._offsets[index + 1]
        try:
            value = json.loads(os.pread(self._open().fileno(), stop - start, start))
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both
            cut = " (the file's last line: was it cut off?)" if index == len(self) - 1 else ""
            raise ValueError(f"{self.where(index)}: not JSON{cut}: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(f"{self.where(index)}: found a JSON {type(value).__name__}, expected an object")
        return value

    def where(self, index: int) -> str:
        """Return "file:line" of an item, for messages."""
        index = self._checked(index)
        return f"{self.path}:{index + 1 + bisect_right(self._blanks, index)}"

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"{self.path} has {len(self)} lines, there is no line number {index} (counted from 0)"
            )
        return index % len(self)

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._file = self.path.open("rb")
        return self._file  # it is read at offsets, so forked processes do not move each other's position

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def parsed_lines(
    lines: JsonLines,
    parse: Callable[[dict[str, Any], str], T],
    on_bad_sample: Literal["raise", "skip"] = "raise",
) -> Iterator[tuple[int, T]]:
    """Yield the number of every line and `parse(object, "file:line")`.

    Args:
        lines: the file.
        parse: makes a value of an object, or raises ValueError.
        on_bad_sample: "raise" at a line that is not JSON or that `parse` refuses, or "skip" such lines and warn at the
            end with their number.
    """
    bad: list[str] = []
    for index in range(len(lines)):
        try:
            value = parse(lines.raw(index), lines.where(index))
        except ValueError as error:
            if on_bad_sample == "raise":
                raise
            bad.append(str(error))
            continue
        yield index, value
    if bad:
        warnings.warn(f"{lines.path}: {len(bad)} lines skipped; the first: {bad[0]}", stacklevel=3)
