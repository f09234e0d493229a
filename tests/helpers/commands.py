"""Run a script as a user does: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


LAUNCHERS = {
    "accelerate": (
        "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no",
    ),
    "two processes": ("torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
}  # fmt: skip


def command_of(name: str, arguments: tuple, launcher: str | None = None) -> list[str]:
    """The command line of a script: plain python, or one of LAUNCHERS."""
    start = [sys.executable] if launcher is None else [sys.executable, "-m", *LAUNCHERS[launcher]]
    return [*start, str(REPOSITORY / "scripts" / name), *map(str, arguments)]


def environment(cache: Path) -> dict[str, str]:
    """No network, a cache of the test's own, the CPU."""
    return os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "CLIPTD_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "200",
    }


def run_script(name: str, *arguments, launcher: str | None = "accelerate", cache: Path, check: bool = True):
    """Run a script to its end; stdout and stderr together come back."""
    done = subprocess.run(
        command_of(name, arguments, launcher),
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        cwd=cache,
    )
    if check:
        assert done.returncode == 0, done.stdout[-4000:]
    return done
