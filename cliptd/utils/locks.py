"""Locks on files that end with the process that holds them, even if it is killed."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]  # a module, or None


@contextmanager
def one_process_at_a_time(path: Path) -> Iterator[None]:
    """Hold the lock of a file in the block. If another process holds it, wait for that one first.

    Raises OSError on a platform without such locks.
    """
    _refuse_other_platforms()
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def take_lock(path: Path, held: str) -> TextIO:
    """Take the lock of a file, and return the open file. The lock is released when that is closed.

    Args:
        path: the file, which also notes the process that holds the lock.
        held: what the lock is for, such as "store /data/store", for the message.

    Raises:
        BlockingIOError: another process holds it; the message names that process and its machine.
        OSError: the platform has no such locks.
    """
    _refuse_other_platforms()
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise BlockingIOError(f"{held} is being written by {holder}; wait for it or end it") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def _refuse_other_platforms() -> None:
    if fcntl is None:
        raise OSError(
            f"this platform ({sys.platform}) has no file locks that end with their process (fcntl); use Linux, macOS, "
            "or the Windows Subsystem for Linux"
        )
