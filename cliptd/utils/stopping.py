"""Signals that end a command: Ctrl-C (SIGINT) and SIGTERM."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """A signal ended the work, and the same command goes on from there.

    A BaseException, as KeyboardInterrupt is: `except Exception` must not take it for a bad sample.

    Args:
        number: the signal, such as `signal.SIGTERM`.
        where: how far the work had come, such as "at step 130"; empty if nothing is known.
    """

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(f"stopped {where}".strip())
        self.number, self.where = number, where

    @property
    def exit_code(self) -> int:
        """Return 130 after Ctrl-C and 143 after SIGTERM, as shells expect."""
        return 128 + self.number


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Raise `Stopped` at SIGTERM, so that files are closed and worker processes end as after Ctrl-C."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
