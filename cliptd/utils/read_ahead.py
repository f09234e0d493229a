"""Reading ahead in threads: images are decoded and transformed while a model embeds earlier ones."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")
MOST_THREADS = 8


def read_ahead(
    read: Callable[[Item], Found], items: Iterable[Item], ahead: int
) -> Generator[Found, None, None]:
    """Yield `read(item)` for every item, in order. Up to `ahead` results wait in memory.

    An error of `read` is raised in the place of its result. Items whose reading has not begun by then are not read.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # on this machine, each with threads of its own
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(MOST_THREADS, cores // processes))
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Found]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items. The last list holds the rest."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
