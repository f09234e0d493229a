"""Every script as typed: its --help, and the study of the benchmark at its smallest."""

import json

import pytest
from recipe import REPOSITORY, run_script

SCRIPTS = sorted(path.name for path in (REPOSITORY / "scripts").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_the_script_is_for(cache, name):
    done = run_script(name, "--help", launcher=None, cache=cache)
    assert f"usage: {REPOSITORY / 'scripts' / name}" in done.stdout


@pytest.mark.slow
def test_the_study_ends_in_a_table_and_does_not_run_a_finished_cell_again(cache, tmp_path):
    arguments = (
        "vqa", "--out", tmp_path, "--methods", "none", "targeted", "adapted_teacher", "--items", 32,
        "--steps-at", 2, "--tuned-at", 0, "--seeds", 0, 1, "--first-seeds.adapted-teacher", 1, "--lrs", 1e-3, 2e-3,
        "--tuning-seeds", 7, "--validation-items", 8, "--test-items", 8, "--processes", 2,
        "--sizes.train", 240, "--sizes.val", 30, "--sizes.cp-test", 30, "--sizes.shifted", 30, "--sizes.test", 3,
        "--batch-size", 8, "--warmup-steps", 1,
    )  # fmt: skip
    first = run_script("study_iconworld.py", *arguments, launcher=None, cache=cache)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    cells = {(row["method"], row["labelled"], row["seed"], row["test_set"]) for row in rows}
    assert len(cells) == len(rows) == (2 + 2 + 1) * 4  # methods by seeds, test sets and validation
    assert "shifted2014" in (tmp_path / "report.md").read_text()
    trials = [json.loads(path.read_text()) for path in (tmp_path / "trials").glob("*/results.json")]
    assert len(trials) == 3 * 2
    assert {row["test_set"] for trial in trials for row in trial["rows"]} == {
        "validation"
    }  # no test set opened
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    again = run_script("study_iconworld.py", *arguments, launcher=None, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")} == written
    table = "VQA on iconworld"
    assert first.stdout[first.stdout.index(table) :] == again.stdout[again.stdout.index(table) :]
