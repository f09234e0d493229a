"""inspect_selection.py and make_splits.py as typed."""

import json
import re

import pytest

from tasks.iconworld.files.vcr import VcrSizes, write_vcr
from tasks.iconworld.files.vqa import VqaSizes, write_vqa
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER
from tests.helpers.commands import run_script

SHIPPED = (
    "--student",
    STUDENT,
    "--regions",
    f"local-dir:{REGIONS}",
    "--teacher",
    TEACHER,
    "--teacher-boxes",
    "alone",
)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return {
        "vcr": write_vcr(tmp_path_factory.mktemp("vcr"), sizes=VcrSizes(60, 8, 8, 8)),
        "vqa": write_vqa(tmp_path_factory.mktemp("vqa"), sizes=VqaSizes(120, 9, 9, 9, 9)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vcr", "vqa"])
def test_the_page_shows_every_instance_with_its_words_and_numbers(task, roots, cache, tmp_path):
    more = {
        "vcr": ("--no-known-classes",),
        "vqa": ("--proposals", roots["vqa"] / "proposals.jsonl", "--min-occurrences", 1),
    }[task]
    run_script(
        "inspect_selection.py", "--task", task, "--instances", 3, "--out", tmp_path / "page.html", "--",
        "--data-root", roots[task], *SHIPPED, *more, "--validation-items", 12, "--run-dir", tmp_path / "run",
        launcher=None, cache=cache,
    )  # fmt: skip
    page = (tmp_path / "page.html").read_text()
    texts = 4 if task == "vcr" else 1
    assert page.count("<img ") == page.count("<section>") == 3
    assert page.count("<small>match") == 3 * texts
    assert page.count("<p class=right>") == (3 if task == "vcr" else 0)
    weights = [float(found) for found in re.findall(r"weight ([0-9.]+)", page)]
    assert sum(weights) / 3 == pytest.approx(1, abs=0.02)
    assert page.count("student") >= 3
    assert len(re.findall(r"<p class=answer>Right answer: [^<]+\.</p>", page)) == 3
    assert "its head untrained" in page
    assert "<meta name=viewport" in page
    assert re.search(r'<b title="visual -?[0-9.]+, semantic -?[0-9.]+, combined [0-9.]+"', page)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "options", "message"),
    [
        (("--method", "shuffled_teacher"), (), "look at --method targeted"),
        (("--method", "none"), (), "method 'none' distils nothing"),
        (("--instances", 0), (), "--instances is 0, expected at least 1"),
        (("--method", "adapted_teacher"), (), "adapted_teacher/teacher holds no adapted teacher"),
        ((), ("--store", "nowhere"), "nowhere is not a store"),
    ],
)
def test_a_page_shows_what_training_used_or_none(own, options, message, roots, cache, tmp_path):
    done = run_script(
        "inspect_selection.py", "--task", "vcr", *own, "--out", tmp_path / "page.html", "--", "--data-root",
        roots["vcr"], *SHIPPED, "--no-known-classes", "--validation-items", 12, "--run-dir", tmp_path / "run", *options,
        launcher=None, cache=cache, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "page.html").exists()


@pytest.mark.slow
def test_a_trained_student_is_named_and_its_answers_are_shown(roots, cache, tmp_path):
    of_the_task = (
        "--data-root", roots["vqa"], "--proposals", roots["vqa"] / "proposals.jsonl", *SHIPPED,
        "--validation-items", 12, "--min-occurrences", 2,
    )  # fmt: skip
    run_script(
        "finetune_vqa.py", *of_the_task, "--methods", "none", "--steps", 2, "--eval-every", 2, "--warmup-steps", 1,
        "--batch-size", 8, "--run-dir", tmp_path / "run", "--max-test-items", 4, launcher=None, cache=cache,
    )  # fmt: skip
    student = tmp_path / "run" / "none" / "student"
    page = tmp_path / "page.html"
    given = ("--task", "vqa", "--instances", 3, "--out", page, "--", *of_the_task)
    done = run_script("inspect_selection.py", *given, "--student", student, launcher=None, cache=cache)
    assert f"Page: {page}" in done.stdout
    assert f"Student: {student}, trained." in page.read_text()
    assert len(re.findall(r"Right answer: [^<]+\. The student says [^<]+\.</p>", page.read_text())) == 3


@pytest.mark.slow
def test_splits_are_nested_and_have_the_hash_of_the_runs(roots, cache, tmp_path):
    done = run_script(
        "make_splits.py", "--task", "vqa", "--fractions", 0.1, 0.5, "--seeds", 0, 1, "--out", tmp_path, "--",
        "--data-root", roots["vqa"], "--validation-items", 12, launcher=None, cache=cache,
    )  # fmt: skip
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert set(found) == {f"vqa_{f}_seed{s}.json" for f in ("0.1", "0.5") for s in (0, 1)}
    small, large = found["vqa_0.1_seed0.json"], found["vqa_0.5_seed0.json"]
    assert large["labelled"][: len(small["labelled"])] == small["labelled"]
    assert small["labelled"] != found["vqa_0.1_seed1.json"]["labelled"]
    assert small["validation"] == large["validation"] == found["vqa_0.1_seed1.json"]["validation"]
    assert not set(large["labelled"]) & set(large["validation"])
    assert small["training_hash"] in done.stdout
    assert f"Splits: {tmp_path}" in done.stdout
    assert "Next: python scripts/finetune_vqa.py --data-root" in done.stdout


def test_shares_that_are_none_are_refused(capsys):
    from tasks.commands.make_splits import main

    with pytest.raises(SystemExit) as end:
        main(["--task", "vqa", "--fractions", "0.1", "1.5", "--out", "x"])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith(
        "error: --fractions holds 1.5, expected shares above 0 and at most 1"
    )
