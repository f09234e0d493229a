"""Processes that share the machine: each has its own GPU or its share of the cores."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch


def process_pool(processes: int) -> ProcessPoolExecutor:
    """Fresh interpreters; without a GPU each has its share of the cores, with several each its own.

    They end with the process that made them, however it ends: a killed grid leaves nothing behind that goes on with it.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for number in range(processes):
        queue.put(number)
    return ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=_start,
        initargs=(queue, processes, torch.cuda.device_count()),
    )


def _start(queue: Any, processes: int, gpus: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    number = queue.get()
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(k) for k in range(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number % gpus]  # before this process first asks for one
        return
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
