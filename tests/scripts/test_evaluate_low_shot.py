"""evaluate_low_shot.py as typed: finished cells stay, killed grids go on, the report says how sure it is."""

import json
import os
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
    assert "Report:" in done.stdout

    other = run_script(
        "evaluate_low_shot.py", *arguments, "--batch-size", 4, launcher=None, cache=cache, check=False
    )
    assert other.returncode != 0
    assert "holds cells of other settings (training." in other.stdout
