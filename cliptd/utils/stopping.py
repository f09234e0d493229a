"""Signals that end a command: Ctrl-C (SIGINT) and SIGTERM."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAME_SIGNAL_SECONDS = 1.0
"""A signal that follows another within this time is the same request: a terminal and a launcher both send Ctrl-C."""


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

    def __reduce__(self) -> tuple[type["Stopped"], tuple[int, str]]:
        return type(self), (self.number, self.where)  # a worker process sends it to the one that waits

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


class StopRequest:
    """The signal that asked a loop to stop after its current step, and the clock's time then.

    `number` is 0 while there is none.
    """

    number = 0
    time = 0.0


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note the first Ctrl-C or SIGTERM, for a loop that chooses where to end. A later signal stops at once.

    Outside the main thread, where Python handles no signals, nothing is noted. A signal that the process ignores stays
    ignored.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request.number and time.monotonic() - request.time > SAME_SIGNAL_SECONDS:
            raise Stopped(number)
        if request.number:
            return
        request.number, request.time = number, time.monotonic()
        print("stopping after this step; once more to stop at once", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_signals_to_parent(worker: int) -> None:
    """Go on at Ctrl-C and at the first SIGTERM, which terminals and batch systems send to all processes.

    The parent may need this process to finish its step, and ends it then. It is a DataLoader's `worker_init_fn`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
