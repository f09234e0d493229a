"""Run a script as a user does: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def run_script(name: str, *arguments, launch: bool = True, cache: Path, check: bool = True):
    """`accelerate launch scripts/NAME ARGUMENTS` (or `python …`); stdout and stderr together come back."""
    start = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    start += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [*(start if launch else [sys.executable]), str(REPOSITORY / "scripts" / name)]
    environment = os.environ | {
        "CLIPTD_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        cwd=cache,
    )
    if check:
        assert done.returncode == 0, done.stdout[-4000:]
    return done
