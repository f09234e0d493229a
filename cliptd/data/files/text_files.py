"""Text and CSV files in UTF-8. Errors name the place that is not UTF-8."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


def read_text(path: str | Path) -> str:
    """Read a UTF-8 file without its byte-order mark. Raises ValueError naming file and line, FileNotFoundError."""
    return decode(Path(path).read_bytes(), str(path))


def decode(content: bytes, where: str) -> str:
    """Decode UTF-8 without its byte-order mark. Raises ValueError that begins with `where` and names the line."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{where}: is not UTF-8 in line {line} (byte {content[error.start]:#04x}); convert it"
        ) from None


def csv_columns(path: str | Path, separator: str = ",") -> list[str]:
    """Return the column names in a CSV's first line. Raises ValueError as `csv_rows` does, FileNotFoundError."""
    with open(path, "rb") as file:
        head = decode(file.readline(), str(path))
    return next(csv.reader([head], delimiter=separator), [])


def _noted(lines: Iterable[str], seen: list[str]) -> Iterator[str]:
    for line in lines:
        seen.append(line)
        yield line


def _refuse_swallowed_lines(lines: Sequence[str], separator: str) -> None:
    """Raise csv.Error for a row of several lines that is not well quoted, or whose quote ends with the file."""
    several = sum(bool(line.strip()) for line in lines) > 1
    if several or not lines[-1].endswith(("\n", "\r")):
        try:
            list(csv.reader(lines, delimiter=separator, strict=True))
        except csv.Error as error:
            if several or "end of data" in str(error):
                raise


def csv_rows(path: str | Path, separator: str = ",") -> Iterator[tuple[int, dict[str | Any, str | Any]]]:
    """Yield the number of the line at which each row of a CSV ends, and the row's values by column.

    A quote inside a value without quotes is read as pandas does. The values beyond the last column are under None.

    Raises:
        ValueError: text is not UTF-8, or a quote is not closed and would swallow the next rows. The message names file
            and line.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines: list[str] = []  # the lines of the current row
        reader = csv.DictReader(_noted(file, lines), delimiter=separator)
        try:
            if reader.fieldnames:
                lines.clear()
            for row in reader:
                _refuse_swallowed_lines(lines, separator)
                yield reader.line_num, row
                lines.clear()
        except csv.Error as error:
            raise ValueError(
                f"{path}:{reader.line_num - len(lines) + 1}: {error}; is a quote not closed in this "
                "row, or not doubled in a text?"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(f"{path}: is not UTF-8 after line {reader.line_num}; convert it") from None
