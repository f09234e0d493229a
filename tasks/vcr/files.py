"""Lines written to a file that is either whole or absent."""

import os
from collections.abc import Iterable
from pathlib import Path


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Stream `lines` (without their newlines) into `path`, which appears only when all of them are on
    disk."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
