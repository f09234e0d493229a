"""A run inside the test's process: what its folder holds, what it says, how it goes on."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from tasks.finetuning.finetune import finetune
from tasks.finetuning.run import finished_rows, run
from tasks.known_tasks import TASKS
from tasks.vcr.task import VcrTask


@pytest.fixture
def finished(settings_of, capsys):
    settings = settings_of()
    run(settings, TASKS["vcr"], ["--fraction", "0.5", "--methods", "none", "targeted", "--lr", "1e-3"])
    return settings, capsys.readouterr()


def test_the_run_folder_holds_results_curves_examples_and_cards(finished):
    settings, said = finished
    results = json.loads((settings.run_dir / "results.json").read_text())
    assert {"python", "torch", "transformers", "open_clip_torch"} <= results["versions"].keys()
    assert results["hardware"]["cores"] == os.cpu_count()
    assert results["seconds"].keys() == {"none", "targeted"}
    assert all(seconds > 0 for seconds in results["seconds"].values())
    assert results["peak_memory"]["process_bytes"] > 2**26
    assert {"settings", "split", "rows"} <= results.keys()
    for name in ("learning_curves.png", "report.md", "examples.html"):
        assert (settings.run_dir / name).stat().st_size > 0
        assert name in said.out
    umask = os.umask(0)
    os.umask(umask)
    for file in settings.run_dir.glob("*/student/*"):
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask, file


def test_progress_and_end_say_what_runs_and_what_came_of_it(finished):
    settings, said = finished
    assert "Checking data, student and teacher before the first step." in said.err
    for line in ("[1/2 none] step 2/4 ", "[2/2 targeted] step 4/4 ", "Q→AR"):
        assert line in said.err
    assert "q_to_ar" not in said.err + said.out  # people see one name for a metric
    assert re.search(
        r"^targeted [+-]\d+\.\d points of Q→AR on val, against none \(one seed: not conclusive\)\.$",
        said.out,
        re.M,
    )
    assert f"Run folder: {settings.run_dir.resolve()}" in said.out
    own = "-- --fraction 0.5 --lr 1e-3 --student"
    *_, grid, page = said.out.splitlines()
    assert grid == (
        "Next: cliptd evaluate_low_shot --task vcr --fractions 1 --methods none targeted --seeds 0 1 2 "
        f"--out {settings.run_dir}_low_shot -- --lr 1e-3"
    )
    student = settings.run_dir / "targeted" / "student"
    assert page.strip() == f"cliptd inspect_selection --task vcr --method targeted {own} {student}"


def test_a_card_has_a_head_for_the_hub_and_code_that_loads_the_student(finished):
    settings, _ = finished
    folder = settings.run_dir / "targeted" / "student"
    card = (folder / "README.md").read_text(encoding="utf-8")
    _, head, text = card.split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["library_name"] == "transformers"
    assert head["datasets"] == ["vcr"]
    assert {"license", "metrics", "tags"} <= head.keys()
    (result,) = [one for one in head["model-index"][0]["results"] if one["dataset"]["name"] == "VCR, val"]
    assert {metric["name"] for metric in result["metrics"]} == {"Q→A", "QA→R", "Q→AR"}
    assert str(settings.run_dir.parent) not in card  # no path of this machine
    code = text.split("```python\n")[1].split("```")[0] + "\nprint(type(student).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "ViltForImageAndTextRetrieval\n"


def test_a_finished_run_is_only_said_again(finished, capsys, monkeypatch):
    settings, said = finished
    monkeypatch.setattr("tasks.finetuning.finetune.finetune", None)  # it would fail
    run(settings, TASKS["vcr"], ["--fraction", "0.5", "--methods", "none", "targeted", "--lr", "1e-3"])
    again = capsys.readouterr()
    assert again.err == f"{settings.run_dir} holds this run, finished; nothing is trained again.\n"
    assert again.out == said.out


@pytest.mark.parametrize(
    "changes", [{"training": {"lr": 1e-3}}, {"methods": ("none",)}, {"training": {"resume": "never"}}]
)
def test_another_run_is_not_taken_for_the_finished_one(finished, settings_of, changes):
    settings, _ = finished
    assert finished_rows(settings) is not None
    assert finished_rows(settings_of(training={"num_workers": 0, "save_every": 1})) is not None
    assert finished_rows(settings_of(**changes)) is None


def test_other_training_files_are_not_taken_for_the_finished_run(finished):
    settings, _ = finished
    file = settings.data.data_root / "train.jsonl"
    before = file.read_bytes()
    try:
        file.write_bytes(before + before.splitlines(keepends=True)[-1])
        assert finished_rows(settings) is None
    finally:
        file.write_bytes(before)


def test_a_run_without_test_sets_has_no_examples(settings_of):
    settings = settings_of(test_sets=(), methods=("none",))
    rows = finetune(settings, VcrTask)
    assert [row["test_set"] for row in rows] == ["validation"]
    assert not (settings.run_dir / "examples.html").exists()
