"""Files that are either whole or absent, whatever kills the process."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""The suffix of files that are being written."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and move its file to `path` after the block.

    A reader sees the old content or the new one. After an error in the block the old content stays.
    """
    path = Path(path)
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)
    partial.touch()
    # The mode follows the user's umask. safetensors would write a file that only its owner may read.
    mode = partial.stat().st_mode
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.chmod(mode)
    flush_to_disk(partial)
    partial.replace(path)
    flush_to_disk(path.parent)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Replace the content of a file in one move. Text is written as UTF-8."""
    with whole_file(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write lines, given without their newlines, to a file that appears only when all of them are on disk."""
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def readable_as_the_umask_says(folder: Path) -> None:
    """Give the files of a folder the mode of new files, since safetensors lets only their owner read them.

    The umask can only be read by setting it, so other threads must not write files meanwhile.
    """
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(0o666 & ~umask)


def read_json(path: Path, remedy: str) -> Any:
    """Return the JSON content of a file.

    Args:
        remedy: what to do about a damaged file, such as "build the store again". The message ends with it.

    Raises:
        ValueError: the file is cut short or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}); {remedy}") from None


def flush_to_disk(path: Path) -> None:
    """Force a file or a folder to the disk (fsync), so that its content is there before a later rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
