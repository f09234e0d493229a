"""Every script as typed: its --help, and the study of the benchmark at its smallest."""

import json
import os
import re
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tasks.commands.__main__ import names
from tasks.iconworld.models import TEACHER
from tests.helpers.commands import REPOSITORY, run_script

FOLDER = REPOSITORY / "scripts"
SCRIPTS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.py"))


HEAVY = ("torch", "transformers", "datasets", "open_clip", "accelerate", "matplotlib")
ASK_FOR_HELP = """
import sys
from importlib import import_module
sys.argv = ["scripts/{name}.py", "--help"]
main = import_module("tasks.commands.{name}").main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
found = set(sys.modules).intersection({heavy})
assert not found, found
"""


@pytest.mark.parametrize("name", names())
def test_help_of_a_command_is_light_and_in_plain_words(name):
    code = ASK_FOR_HELP.format(name=name, heavy=HEAVY)
    environment = os.environ | {"COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=REPOSITORY, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    said = done.stdout
    assert f"scripts/{name}.py" in said.split("options", 1)[0]  # a command line to copy
    assert "default: None" not in said  # what the command decides is said in words
    assert not re.search(r"\b(cliptd|tasks)\.[a-z_]+\.[a-z_A-Z]+", said)  # no names of the code
    assert not re.search(r"\b[A-Z][a-z]+[A-Z]\w*(Config|Settings|Options)\b", said)
    assert "own kind" not in said
    without_words = re.findall(
        r"^│ +--[\w.-]+(?:, --[\w.-]+)*(?: [A-Z{\[|]\S*)* +(?:│\n│ +)?\(default", said, re.MULTILINE
    )
    assert not without_words  # every option is explained


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
    first = run_script("studies/study_iconworld.py", *arguments, launcher=None, cache=cache)
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
    again = run_script("studies/study_iconworld.py", *arguments, launcher=None, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")} == written
    table = "VQA on iconworld"
    assert first.stdout[first.stdout.index(table) :] == again.stdout[again.stdout.index(table) :]


@pytest.mark.slow
def test_the_study_of_compression_ends_in_a_table_and_curves(cache, tmp_path):
    arguments = (
        "--out", tmp_path, "--pairs", 100, "--pictures", 30, "--lrs", 1e-3, "--seeds", 1, "--steps", 8,
        "--batch-size", 8, "--warmup-steps", 1, "--eval-every", 2,
    )  # fmt: skip
    first = run_script("studies/study_compression.py", *arguments, launcher=None, cache=cache)
    results = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.glob("cells/*/results.json")}
    assert len(results) == 7
    assert all(len(result["curve"]) in (2, 4) for result in results.values())
    assert all(result["curve"][-1][0] == 8 * 8 for result in results.values())  # pairs, of all stages
    sizes = {name.rsplit("_lr")[0]: result["parameters"] for name, result in results.items()}
    assert sizes["scratch_0.5"] == sizes["distilled_0.5"] == sizes["inherited_0.5"]
    assert sizes["scratch_0.25"] == sizes["inherited_0.25"]
    assert max(sizes["scratch_0.25"], sizes["stages_0.25"]) < min(sizes["scratch_0.5"], sizes["masks_0.5"])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "teacher" in (tmp_path / "report.md").read_text()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    again = run_script("studies/study_compression.py", *arguments, launcher=None, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")} == written
    assert first.stdout.split("zero-shot top-1")[1] == again.stdout.split("zero-shot top-1")[1]


REINFORCED = (
    "plain", "captions", "distilled", "both", "replayed", "strong", "plain strong", "ensemble",
)  # fmt: skip
UNPAIRED = (
    "pairs",
    "unpaired",
    "without vl",
    "without pvl",
    "with udist",
    "both towers",
    "tower after tower",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "ways"),
    [("studies/study_reinforcement.py", REINFORCED), ("studies/study_unpaired.py", UNPAIRED)],
)
def test_the_other_studies_end_in_a_table_and_curves(script, ways, cache, tmp_path):
    arguments = (
        "--out", tmp_path, "--pairs", 48, "--pictures", 20, "--lrs", 1e-3, "--seeds", 1, "--steps", 2,
        "--batch-size", 8, "--warmup-steps", 1, "--eval-every", 1,
        *(("--no-linear-probe",) if script == "studies/study_unpaired.py" else ("--second-teacher", TEACHER)),
    )  # fmt: skip
    done = run_script(script, *arguments, launcher=None, cache=cache)
    results = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.glob("cells/*/results.json")}
    assert set(results) == {f"{way.replace(' ', '_')}_lr0.001_seed1" for way in ways}
    for name, result in results.items():
        assert [pairs for pairs, _ in result["curve"]] == ([16] if "after" in name else [8, 16])
        assert 0 <= result["unseen"] <= 100
    report = (tmp_path / "report.md").read_text()
    assert all(f"| {way} |" in report for way in ways)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "zero-shot top-1, in percent" in done.stdout


@pytest.mark.slow
def test_the_shipped_teacher_learns_augmented_pictures(cache, tmp_path):
    arguments = (
        *("--start-from", TEACHER, "--steps", 1, "--batch-size", 8, "--warmup-steps", 0, "--eval-every", 1),
        *("--mixed-precision", "no", "--run-dir", tmp_path / "run", "--out", tmp_path / "teacher"),
    )
    run_script(
        "shipped_models/train_iconworld_teacher.py", *arguments, "--augmented", launcher=None, cache=cache
    )
    card = json.loads((tmp_path / "teacher" / "card.json").read_text())
    assert (card["augmented"], card["start_from"]) == (True, str(TEACHER))
    weights = [
        load_file(folder / "open_clip_model.safetensors") for folder in (TEACHER, tmp_path / "teacher")
    ]
    assert weights[0].keys() == weights[1].keys()
    moved = [(weights[0][name] - weights[1][name]).abs().max() for name in weights[0]]
    assert 0 < max(moved) < 0.01  # a step from where it started
    done = run_script(
        "shipped_models/train_iconworld_teacher.py", *arguments, launcher=None, cache=cache, check=False
    )
    assert "augmented" in done.stdout.splitlines()[-1], done.stdout
