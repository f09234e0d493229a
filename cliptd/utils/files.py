"""Files that are either whole or absent, whatever kills the process."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""How the names of files end that are being written."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; once the block ends without an error, what is there is on disk as `path`.

    A reader sees the old content or the new one.
    """
    path = Path(path)
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)
    partial.touch()
    mode = partial.stat().st_mode  # as the user's umask has it; safetensors writes for its owner alone
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
    """Replace `path` by `content`, text as UTF-8, in one move."""
    with whole_file(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Stream `lines`, without their newlines, into `path`, which appears only when all of them are on disk."""
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def readable_as_the_umask_says(folder: Path) -> None:
    """Give a folder's files the mode that the umask gives new files; safetensors writes for its owner alone.

    The umask can only be read by setting it, so this is not for several threads.
    """
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(0o666 & ~umask)


def read_json(path: Path, remedy: str) -> Any:
    """Return the JSON content of a file.

    Args:
        remedy: what to do about a damaged file, such as "build the store again"; the message ends with it.

    Raises:
        ValueError: the file is cut short or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}); {remedy}") from None


def flush_to_disk(path: Path) -> None:
    """fsync of a file or a folder, so that a later rename cannot outrun the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
