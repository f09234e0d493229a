"""Run many cells in a pool, say what runs and how long it takes, and stop so that the same command goes on."""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from cliptd.utils.stopping import Stopped

Result = TypeVar("Result")


def run_all(
    pool: Executor | None,
    work: Callable[..., Result],
    arguments: Sequence[tuple[Any, ...]],
    *,
    names: Sequence[str],
    finished: Sequence[bool],
    what: str,
    at_a_time: int = 1,
) -> list[Result]:
    """Return the results of `work(*arguments[k])`, in order, and print what runs whenever that changes.

    Args:
        pool: runs what is not finished; None if everything is.
        names: what people call each.
        finished: which results are there from before; they are read in this process.
        what: "cell", or what else one of them is called.
        at_a_time: how many the pool runs at the same time, in the order in which they are given.

    Raises:
        Stopped: Ctrl-C or SIGTERM; it says how many are finished.
        ValueError: a process of the pool ended by itself.
    """
    total, done = len(arguments), sum(finished)
    results = {k: work(*arguments[k]) for k in range(total) if finished[k]}
    waiting = [k for k in range(total) if not finished[k]]
    if not waiting:
        return [results[k] for k in range(total)]
    assert pool is not None
    if done:
        _say(f"{done} of {total} {what}s are finished already")
    began, new = time.perf_counter(), 0
    futures = {pool.submit(work, *arguments[k]): k for k in waiting}
    _say(_what_runs(waiting[:at_a_time], names, what, done, total, ""))
    try:
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            waiting.remove(futures[future])
            done, new = done + 1, new + 1
            left = _time_left((time.perf_counter() - began) / new * len(waiting))
            if waiting:
                _say(_what_runs(waiting[:at_a_time], names, what, done, total, left))
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT, f"with {done} of {total} {what}s finished") from None
    except Stopped as stop:
        raise Stopped(stop.number, f"with {done} of {total} {what}s finished") from None
    except BrokenProcessPool as error:
        raise ValueError(
            f"a process of the grid ended by itself, with {done} of {total} {what}s finished; perhaps memory was too "
            "small for --processes; run the same command again, with fewer"
        ) from error
    _say(f"all {total} {what}s are finished")
    return [results[k] for k in range(total)]


def _what_runs(
    running: Sequence[int], names: Sequence[str], what: str, done: int, total: int, left: str
) -> str:
    first, last = done + 1, done + len(running)
    which = f"{what} {first}/{total}" if first == last else f"{what}s {first} to {last} of {total}"
    return f"{which}{left}: {' | '.join(names[k] for k in running)}"


def _time_left(seconds: float) -> str:
    """Return the estimate in words.

    >>> _time_left(40), _time_left(700)
    (', less than a minute left', ', about 12 min left')
    """
    return f", about {seconds / 60:.0f} min left" if seconds >= 60 else ", less than a minute left"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
