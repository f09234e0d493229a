"""Processes of a pool end with the one that made them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.commands import REPOSITORY

POOL = """
import os, time
from tasks.low_shot.processes import process_pool

if __name__ == "__main__":
    with process_pool(2) as pool:
        found = {pool.submit(os.getpid).result()}
        print(*found, flush=True)
        for _ in range(4):
            pool.submit(time.sleep, 600)
"""


@pytest.mark.slow
def test_a_killed_grid_leaves_no_process_behind(tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "pool.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and os.path.exists(f"/proc/{child}"):
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{child}")


STOPPED_POOL = """
import os, signal, sys, time
from cliptd.utils.stopping import raising_on_sigterm, Stopped
from tasks.low_shot.processes import process_pool
from tasks.low_shot.progress import run_all

def work(seconds):
    time.sleep(seconds)
    return os.getpid()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with raising_on_sigterm(), process_pool(2) as pool:
            print(pool.submit(os.getpid).result(), flush=True)
            runs = [(0,), *[(600,)] * 5]
            run_all(pool, work, runs, names="abcdef", finished=[False] * 6, what="cell", at_a_time=2)
    except Stopped as stop:
        print(stop, flush=True)
        sys.exit(stop.exit_code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_grid_cancels_what_is_queued_and_says_so(tmp_path, number, code):
    (tmp_path / "pool.py").write_text(STOPPED_POOL)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "pool.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    child = int(parent.stdout.readline())
    assert parent.stderr.readline() == "cells 1 to 2 of 6: a | b\n"
    assert "cells 2 to 3 of 6" in parent.stderr.readline()
    parent.send_signal(number)
    out, err = parent.communicate(timeout=60)
    assert parent.returncode == code
    assert out.strip() == "stopped with 1 of 6 cells finished"
    assert "Traceback" not in err
    assert not os.path.exists(f"/proc/{child}")
