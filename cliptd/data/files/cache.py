"""The folder of derived files, which are kept between runs."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cliptd.utils.locks import one_process_at_a_time


def cache_folder() -> Path:
    """Return $CLIPTD_CACHE, or else ~/.cache/cliptd."""
    return Path(os.environ.get("CLIPTD_CACHE", Path.home() / ".cache" / "cliptd"))


def size_and_date(file: Path) -> tuple[int, int]:
    """Return the size in bytes and the modification time in nanoseconds. Raises FileNotFoundError."""
    try:
        status = file.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; check the path") from None
    return status.st_size, status.st_mtime_ns


def derived_file(name: str, write: Callable[[Path], object], files: Sequence[Path], **facts: Any) -> Path:
    """Return the file `name`, which `write(path)` makes of `files`. It is made again only if these changed.

    Processes that start together make it once.

    Args:
        name: the file's name in the cache.
        write: writes the file to the path that it is given.
        files: the files that it is made of.
        facts: everything else that its content depends on, as JSON values.
    """
    made_of = [[str(file.resolve()), *size_and_date(file)] for file in files]
    key = hashlib.sha256(json.dumps([name, made_of, facts], sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / "derived" / key / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_process_at_a_time(path.with_name(f"{name}.lock")):
            if not path.exists():
                own = path.with_name(f"{name}.{os.getpid()}")
                try:
                    write(own)
                    own.replace(path)
                finally:
                    own.unlink(missing_ok=True)
    return path
