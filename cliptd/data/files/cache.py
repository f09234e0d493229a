"""Where derived files are kept between runs."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """$CLIPTD_CACHE, or ~/.cache/cliptd."""
    return Path(os.environ.get("CLIPTD_CACHE", Path.home() / ".cache" / "cliptd"))


def size_and_date(file: Path) -> tuple[int, int]:
    """In bytes and nanoseconds: what changes with a file's content. Raises FileNotFoundError."""
    try:
        status = file.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file") from None
    return status.st_size, status.st_mtime_ns


def derived_file(name: str, write: Callable[[Path], Any], files: Sequence[Path], **facts: Any) -> Path:
    """The file `name` that `write(path)` makes of `files`; made anew only if they changed.

    facts: what else its content depends on, JSON values. Processes that start together make it once.
    """
    made_of = [[str(file.resolve()), *size_and_date(file)] for file in files]
    key = hashlib.sha256(json.dumps([name, made_of, facts], sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / "derived" / key / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                own = path.with_name(f"{name}.{os.getpid()}")
                try:
                    write(own)
                    own.replace(path)
                finally:
                    own.unlink(missing_ok=True)
    return path
