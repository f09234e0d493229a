"""Processes that share the machine: each has its own GPU or its share of the cores."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from cliptd.utils.stopping import Stopped
from tasks.command_line import plain_warnings

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class StoppablePool(ProcessPoolExecutor):
    """A pool whose processes, once they are told to stop, begin nothing that was already handed to them."""

    def submit(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        return super().submit(_unless_stopped, work, *args, **kwargs)


@contextmanager
def process_pool(processes: int) -> Iterator[StoppablePool]:
    """Yield a pool of fresh interpreters. Without a GPU each has its share of the cores, with several GPUs its own.

    If OMP_NUM_THREADS is set, it is the number of threads of each. An error, Ctrl-C or SIGTERM in the block cancels
    what is queued and tells the processes to stop. What trains saves its step first. The processes end with the one
    that made them, even if it is killed.
    """
    import torch  # only here: a finished grid needs no pool and no torch

    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for number in range(processes):
        queue.put(number)
    threads = threads_of_each(processes)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # libraries read it when the new interpreters import them
    pool = StoppablePool(
        processes,
        mp_context=context,
        initializer=_start,
        initargs=(queue, threads, torch.cuda.device_count()),
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown()
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def threads_of_each(processes: int) -> int:
    """Return OMP_NUM_THREADS if it is set, else each process's share of the cores that this one may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes)


class _Process:
    """The state of a process of a pool."""

    started = False
    busy = False
    stopped = False
    for_life = ExitStack()


def _unless_stopped(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if _Process.stopped:
        raise Stopped(signal.SIGTERM)
    _Process.busy = True
    try:
        return work(*args, **kwargs)
    except Stopped:
        _Process.stopped = True
        raise
    finally:
        _Process.busy = False


def _stop(number: int, frame: FrameType | None) -> None:
    _Process.stopped = True
    if _Process.started:  # while it starts, it has nothing to end
        raise Stopped(number) if _Process.busy else SystemExit(128 + number)


def _start(queue: Any, threads: int, gpus: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the waiting process tells the others
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Process.for_life.enter_context(plain_warnings())
    warnings.filterwarnings("once", message=".*fresh, to be trained.*")  # not in every cell
    number = queue.get()
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(k) for k in range(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number % gpus]  # before this process first asks for one
    import torch

    torch.set_num_threads(threads)
    _Process.started = True


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
