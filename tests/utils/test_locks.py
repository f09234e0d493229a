"""A lock keeps other processes out, names its holder, and ends with the process however that ends."""

import multiprocessing
import os
import signal
import time

import pytest

from cliptd.utils import locks
from cliptd.utils.locks import one_process_at_a_time, take_lock

FORK = multiprocessing.get_context("fork")


def hold(path, begun):
    lock = take_lock(path, "store s")
    begun.set()
    time.sleep(60)
    lock.close()


def test_a_killed_process_holds_no_lock(tmp_path):
    begun = FORK.Event()
    holder = FORK.Process(target=hold, args=(tmp_path / ".lock", begun))
    holder.start()
    assert begun.wait(30)
    named = rf"^store s is being written by process {holder.pid} on \S+; wait for it or end it$"
    for _ in range(2):  # the first refusal leaves the holder's name
        with pytest.raises(BlockingIOError, match=named):
            take_lock(tmp_path / ".lock", "store s")
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    take_lock(tmp_path / ".lock", "store s").close()
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def add_one(path):
    with one_process_at_a_time(path.with_name("lock")):
        found = int(path.read_text())
        time.sleep(0.05)
        path.write_text(str(found + 1))


def test_processes_wait_for_each_other(tmp_path):
    count = tmp_path / "count"
    count.write_text("0")
    processes = [FORK.Process(target=add_one, args=(count,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert count.read_text() == "4"


def test_a_platform_without_locks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with pytest.raises(OSError, match=r"has no file locks .* use Linux, macOS"):
        take_lock(tmp_path / ".lock", "store s")
    with pytest.raises(OSError, match="has no file locks"), one_process_at_a_time(tmp_path / ".lock"):
        pass
    assert not list(tmp_path.iterdir())
