"""Run many cells in a pool, say how far it has come, and stop so that the same command goes on."""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from cliptd.utils.stopping import Stopped

Result = TypeVar("Result")


def run_all(
    pool: ProcessPoolExecutor,
    work: Callable[..., Result],
    arguments: Sequence[tuple[Any, ...]],
    *,
    names: Sequence[str],
    finished: Sequence[bool],
    what: str,
) -> list[Result]:
    """Return the results of `work(*arguments[k])`, in order, and print a line after each that was not there already.

    Args:
        names: what is printed of each.
        finished: which results are there from before, and come back at once.
        what: "cell", or whatever one of them is.

    Raises:
        Stopped: Ctrl-C or SIGTERM; it says how many are finished.
    """
    total, done = len(arguments), sum(finished)
    if done:
        print(f"{done} of {total} {what}s are finished already", file=sys.stderr, flush=True)
    began, new = time.perf_counter(), 0
    futures = {pool.submit(work, *own): k for k, own in enumerate(arguments)}
    try:
        for future in as_completed(futures):
            future.result()
            if finished[futures[future]]:
                continue
            done, new = done + 1, new + 1
            minutes = (time.perf_counter() - began) / new * (total - done) / 60
            left = f", about {minutes:.0f} min left" if done < total else ""
            print(f"{what} {done}/{total}{left}: {names[futures[future]]}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT, f"with {done} of {total} {what}s finished") from None
    except Stopped as stop:
        raise Stopped(stop.number, f"with {done} of {total} {what}s finished") from None
    except BrokenProcessPool as error:
        raise ValueError(
            f"a process of the grid ended by itself, with {done} of {total} {what}s finished; perhaps memory was too "
            "small for --processes; run the same command again, with fewer"
        ) from error
    results: dict[int, Result] = {k: future.result() for future, k in futures.items()}
    return [results[k] for k in range(total)]
