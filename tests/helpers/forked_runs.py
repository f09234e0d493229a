"""Runs `small_run` in forked processes, to be killed or joined, at the price of one interpreter start.

As a program it serves requests, a JSON object a line: {"run_dir", "settings", "kill_at", "kill_after", "stop",
"processes"}. `kill_at` k: the run kills itself (SIGKILL) in its k-th operation on files. `kill_after`: it is
killed after that many seconds. `stop` [step, rank, signal]: in that step this rank gets the signal. The pauses and
kills live here only; the library has no hooks.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

from cliptd.utils.stopping import Stopped

STOPPED = (130, 143)


class ForkedRuns:
    """The client: `forked_run(run_dir, **settings)` returns whether the run was killed or stopped; an error in it
    fails."""

    def __init__(self, errors: Path):
        self.errors = errors
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors.open("w"),
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        )

    def __call__(self, run_dir, *, kill_at=None, kill_after=None, stop=None, processes=1, **settings) -> bool:
        request = {"run_dir": str(run_dir), "settings": settings, "processes": processes}
        print(
            json.dumps({**request, "kill_at": kill_at, "kill_after": kill_after, "stop": stop}),
            file=self.server.stdin,
            flush=True,
        )
        answer = json.loads(self.server.stdout.readline())
        assert not answer["failed"], self.errors.read_text()[-3000:]
        if stop is not None:
            assert answer["codes"] == [128 + stop[2]] * processes or answer["codes"] == [0] * processes
        return answer["killed"]

    def close(self):
        self.server.stdin.close()
        self.server.wait(60)


def final_weights(run_dir: Path) -> dict:
    """The weights of the run's only checkpoint."""
    (folder,) = (Path(run_dir) / "checkpoints").iterdir()
    return load_file(folder / "model.safetensors")


def main() -> None:
    import torch._dynamo  # noqa: F401  what the first optimizer of a process imports: once here, for all forks

    from tests.helpers import small_run

    for line in sys.stdin:
        request = json.loads(line)
        world = request["processes"]
        port = free_port()
        started = []
        for rank in range(world):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    if world > 1:
                        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
                        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                    code = run_forked(small_run, request, rank)
                except BaseException as error:  # the fork must not go on serving
                    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                finally:
                    os._exit(code)
            started.append(pid)
        if request["kill_after"] is not None:
            time.sleep(request["kill_after"])
            for pid in started:
                os.kill(pid, signal.SIGKILL)
        statuses = wait_for(started)
        asked = request["kill_at"] is not None or request["kill_after"] is not None
        codes = [os.waitstatus_to_exitcode(status) for status in statuses]
        killed = (asked and min(codes) < 0) or any(code in STOPPED for code in codes)
        print(json.dumps({"killed": killed, "codes": codes, "failed": any(codes) and not killed}), flush=True)


def wait_for(processes: list[int]) -> list[int]:
    """Their wait statuses; where one ends badly the others are killed, as launchers do."""
    statuses = {}
    while len(statuses) < len(processes):
        pid, status = os.wait()
        statuses[pid] = status
        if status and os.waitstatus_to_exitcode(status) not in STOPPED:
            for other in set(processes) - statuses.keys():
                os.kill(other, signal.SIGKILL)
    return list(statuses.values())


def run_forked(small_run, request: dict, rank: int) -> int:
    if request["kill_at"] is not None:
        kill_in_file_operation(request["kill_at"])
    if request["stop"] is not None and request["stop"][1] == rank:
        signal_in_step(request["stop"][0], request["stop"][2])
    try:
        small_run.run(request["run_dir"], **request["settings"])
    except Stopped as stopped:
        return stopped.exit_code
    return 0


def signal_in_step(step: int, number: int) -> None:
    """Send this process the signal once, while it computes the loss of this step."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with Ctrl-C ignored
    from cliptd.training import loop

    seed, sent = loop.seed_generators, []

    def seeding(*parts, **options):
        if parts[1:3] == ("forward", step) and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return seed(*parts, **options)

    loop.seed_generators = seeding


def kill_in_file_operation(number: int) -> None:
    """From now on the `number`-th file operation of this process is its last; a file being written is cut in
    half."""
    import shutil

    from cliptd.utils import tensor_files

    done = 0

    def deadly(function, *, halves=None):
        def operation(*args, **kwargs):
            nonlocal done
            done += 1
            if done == number:
                if halves is not None:
                    function(*args, **kwargs)
                    path = args[halves]
                    os.truncate(path, Path(path).stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return operation

    tensor_files.save_file = deadly(tensor_files.save_file, halves=1)
    Path.write_text = deadly(Path.write_text, halves=0)
    Path.write_bytes = deadly(Path.write_bytes, halves=0)
    Path.touch = deadly(Path.touch)
    Path.replace = deadly(Path.replace)
    Path.rename = deadly(Path.rename)
    Path.unlink = deadly(Path.unlink)
    Path.mkdir = deadly(Path.mkdir)
    os.fsync = deadly(os.fsync)
    os.rmdir = deadly(os.rmdir)  # the end of rmtree
    shutil.rmtree = deadly(shutil.rmtree)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    main()
