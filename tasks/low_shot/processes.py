"""Processes that share the machine: each has its own GPU or its share of the cores."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def process_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
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
    pool = ProcessPoolExecutor(
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


def _start(queue: Any, threads: int, gpus: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the waiting process tells the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    number = queue.get()
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(k) for k in range(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number % gpus]  # before this process first asks for one
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
