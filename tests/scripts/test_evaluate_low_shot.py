"""evaluate_low_shot.py as typed: finished cells stay, killed grids go on, the report says how sure it is."""

import itertools
import json
import os
import re
import signal
import subprocess
import time

import pytest

from tasks.iconworld.files.snli_ve import SnliVeSizes, write_snli_ve
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER
from tests.helpers.commands import command_of, environment, run_script


@pytest.fixture(scope="module")
def of_the_task(tmp_path_factory):
    root = write_snli_ve(
        tmp_path_factory.mktemp("snli_ve"), sizes=SnliVeSizes(train=90, dev=12, test=30, shifted=30)
    )
    return (
        "--", "--data-root", root, "--student", STUDENT, "--regions", f"local-dir:{REGIONS}", "--teacher", TEACHER,
        "--teacher-boxes", "alone", "--proposals", root / "proposals.jsonl", "--validation-items", 12,
        "--region-cache", root / "regions", "--steps", 3, "--eval-every", 3, "--save-every", 0, "--warmup-steps", 1,
        "--batch-size", 8, "--test-sets", "test", "shifted",
    )  # fmt: skip


GRID = ("--task", "snli_ve", "--items", 12, 24, "--seeds", 0, 1, "--lrs", 1e-3, 2e-3, "--tuning-seeds", 7, 8)


@pytest.mark.slow
def test_a_grid_is_killed_goes_on_grows_and_ends_in_a_report(of_the_task, cache, tmp_path):
    out = tmp_path / "grid"
    arguments = (*GRID, "--out", out, "--methods", "none", *of_the_task)
    with open(tmp_path / "output", "w") as output:
        victim = subprocess.Popen(
            command_of("evaluate_low_shot.py", arguments), env=environment(cache), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        while victim.poll() is None and len(list(out.glob("cells/*/results.json"))) < 1:
            time.sleep(0.05)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    assert finished
    assert not (out / "report.html").exists()

    run_script("evaluate_low_shot.py", *arguments, launcher=None, cache=cache)
    arguments = (*GRID, "--out", out, "--methods", "none", "targeted", "--processes", 2, *of_the_task)
    done = run_script("evaluate_low_shot.py", *arguments, launcher=None, cache=cache)
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    cells = {(row["method"], row["labelled"], row["seed"], row["test_set"]) for row in rows}
    assert len(cells) == len(rows) == 2 * 2 * 2 * 3
    trials = [json.loads(path.read_text()) for path in out.glob("trials/*/results.json")]
    assert len(trials) == 2 * 2 * 2
    assert {row["test_set"] for trial in trials for row in trial["rows"]} == {
        "validation"
    }  # no test set was opened

    # paired: with one seed both methods had the same labelled items
    hashes = {}
    for path in out.glob("cells/*/results.json"):
        content = json.loads(path.read_text())
        key = content["rows"][0]["seed"], content["rows"][0]["labelled"]
        hashes.setdefault(key, set()).add(content["split"]["training_hash"])
    assert all(len(found) == 1 for found in hashes.values())
    assert len(hashes) == 4

    report, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    assert "evaluate_low_shot.py --task snli_ve" in report
    assert "| shifted | 24 | targeted | 2 |" in report
    assert "difference [95 %]" in report
    assert page.count("<img") == 2
    assert f"Report: {out / 'report.html'}" in done.stdout
    assert "Next: the same command with three --seeds" in done.stdout
    assert "(2 seeds: not conclusive)" in report.split("## Methods")[0]
    facts = json.loads((out / "results.json").read_text())
    assert {row["method"] for row in facts["cost"]} == {"none", "targeted"}
    assert sum(found["cells"] for found in facts["environments"]) == 8
    assert facts["grid"]["processes"] == 2

    again = run_script("evaluate_low_shot.py", *arguments, launcher=None, cache=cache)
    assert f"{out} holds this grid, finished; nothing is trained again." in again.stdout

    other = run_script(
        "evaluate_low_shot.py", *arguments, "--batch-size", 4, launcher=None, cache=cache, check=False
    )
    assert other.returncode != 0
    assert "holds cells of other settings (training." in other.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_grid_says_so_in_one_line_and_goes_on(number, code, of_the_task, cache, tmp_path):
    out = tmp_path / "grid"
    arguments = (
        "--task", "snli_ve", "--items", 24, "--seeds", 0, 1, "--methods", "none", "targeted", "--processes", 2,
        "--out", out, *of_the_task,
    )  # fmt: skip
    arguments = tuple(
        200 if before == "--steps" else given for before, given in itertools.pairwise(("", *arguments))
    )
    victim = subprocess.Popen(
        command_of("evaluate_low_shot.py", arguments), env=environment(cache), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    said = ""
    while "step 20/" not in said:
        line = victim.stdout.readline()
        assert line, said
        said += line
    if number == signal.SIGINT:
        os.killpg(victim.pid, number)  # as a terminal does
    else:
        victim.send_signal(number)
    said += victim.communicate(timeout=120)[0]
    assert victim.returncode == code, said
    assert "stopped with 0 of 4 cells finished; the same command goes on" in said
    assert "Traceback" not in said
    assert "leaked" not in said
    assert not list(out.glob("cells/*/results.json"))
    checkpoints = list(out.glob("cells/*/*/checkpoints/*"))
    assert checkpoints, "training saved its step"
    assert len(list(out.glob("cells/*"))) <= 2, "nothing that was queued began"

    done = run_script("evaluate_low_shot.py", *arguments, launcher=None, cache=cache)
    assert "all 4 cells are finished" in done.stdout
    steps = [int(step) for step in re.findall(r"\[none, 24 labels, seed 0\] step (\d+)/200", done.stdout)]
    assert steps[0] > 15, "it went on from its checkpoint"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "options", "message"),
    [
        ((), ("--teacher", "ViT-L-15", "--pretrained", "openai"), "ViT-L-15"),
        ((), ("--student", "no/student"), "--student is 'no/student', expected the folder of a model"),
        (("--items", 5000), (), "--items is 5000, expected 1 to "),
        (("--methods", "targeted"), (), "--methods are targeted; add none"),
        ((), ("--test-sets", "test", "tset"), "tset"),
    ],
)
def test_a_grid_that_cannot_end_well_does_not_begin(own, options, message, of_the_task, cache, tmp_path):
    done = run_script(
        "evaluate_low_shot.py", "--task", "snli_ve", "--items", 24, "--seeds", 0, "--out", tmp_path / "grid", *own,
        *of_the_task, *options, launcher=None, cache=cache, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    error = done.stdout.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in done.stdout
    assert not list((tmp_path / "grid").glob("cells/*"))
