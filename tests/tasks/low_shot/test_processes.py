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
