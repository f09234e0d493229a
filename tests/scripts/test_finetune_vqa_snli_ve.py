"""finetune_vqa.py and finetune_snli_ve.py as typed, on official files that iconworld writes."""

import json

import pytest
from transformers import (
    AutoTokenizer,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    ViltImageProcessor,
    VisualBertForVisualReasoning,
)

from cliptd.teachers import load_teacher
from tasks.iconworld.files.snli_ve import SnliVeSizes, write_snli_ve
from tasks.iconworld.files.vqa import VqaSizes, write_vqa
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER
from tasks.snli_ve.hard import write_hard
from tasks.snli_ve.metric import score_predictions
from tasks.vqa.metric import score_results
from tests.helpers.commands import run_script
from tests.helpers.tiny_vcr import pair_tokenizer, tiny_config

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
SHORT = ("--steps", 4, "--eval-every", 2, "--save-every", 2, "--warmup-steps", 1, "--batch-size", 8)
FEW = ("--items", 24, "--validation-items", 12)


@pytest.fixture(scope="module")
def vqa(tmp_path_factory):
    sizes = VqaSizes(train=90, val=24, cp_test=24, shifted=24, test=9)
    return write_vqa(tmp_path_factory.mktemp("vqa"), sizes=sizes)


@pytest.fixture(scope="module")
def snli_ve(tmp_path_factory):
    return write_snli_ve(
        tmp_path_factory.mktemp("snli_ve"), sizes=SnliVeSizes(train=120, dev=60, test=60, shifted=30)
    )


@pytest.fixture(scope="module")
def patch_student(tmp_path_factory):
    """A tiny ViLT without task head."""
    folder = tmp_path_factory.mktemp("vilt")
    tokenizer = pair_tokenizer()
    ViltForMaskedLM(tiny_config("vilt", len(tokenizer), 6)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViltImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder


def results_of(run):
    return json.loads((run / "results.json").read_text())


def test_vqa_from_official_files_to_the_servers_results(vqa, cache, tmp_path):
    run = tmp_path / "run"
    done = run_script(
        "finetune_vqa.py", "--data-root", vqa, *SHIPPED, *FEW, *SHORT, "--proposals", vqa / "proposals.jsonl",
        "--min-occurrences", 2, "--methods", "none", "targeted", "--test-sets", "val", "cp_test", "shifted2014",
        "--server-splits", "test", "--run-dir", run, cache=cache,
    )  # fmt: skip
    assert "VQA in percent" in done.stdout
    results = results_of(run)
    assert {row["method"] for row in results["rows"]} == {"none", "targeted"}
    assert {row["test_set"] for row in results["rows"]} == {"validation", "val", "cp_test", "shifted2014"}
    answers = json.loads((run / "answers.json").read_text())
    assert results["split"]["answers"] == len(answers)
    for row in results["rows"]:
        if row["test_set"] == "val":  # our numbers are the official ones of the file we wrote
            official = score_results(
                run / row["method"] / "predictions_val.json",
                vqa / "v2_mscoco_val2014_annotations.json",
                vqa / "v2_OpenEnded_mscoco_val2014_questions.json",
            )
            assert row["overall"] == official["overall"]
            assert row["yes/no"] == official["per_answer_type"]["yes/no"]
    asked = json.loads((vqa / "v2_OpenEnded_mscoco_test2015_questions.json").read_text())["questions"]
    told = json.loads((run / "targeted" / "predictions_test.json").read_text())
    assert {one["question_id"] for one in told} == {one["question_id"] for one in asked}
    assert all(one["answer"] in answers for one in told)
    student = VisualBertForVisualReasoning.from_pretrained(run / "targeted" / "student")
    assert student.config.id2label == dict(enumerate(answers))
    log = [json.loads(line) for line in (run / "targeted" / "log.jsonl").read_text().splitlines()]
    assert all(row["loss_words"] > 0 and row["loss_regions"] > 0 and row["loss_text"] > 0 for row in log)


def test_snli_ve_from_official_files_to_the_hard_pairs(snli_ve, cache, tmp_path):
    run, corrections = tmp_path / "run", tmp_path / "corrected.csv"
    files = [snli_ve / f"snli_ve_{split}.jsonl" for split in ("train", "test")]
    pairs = [json.loads(line)["pairID"] for line in files[1].read_text().splitlines()]
    corrections.write_text("\n".join(["pairID,gold_label", *(f"{pair},neutral" for pair in pairs[:30])]))
    run_script(
        "finetune_snli_ve.py", "--data-root", snli_ve, *SHIPPED, *FEW, *SHORT,
        "--proposals", snli_ve / "proposals.jsonl", "--corrected-labels", corrections,
        "--methods", "none", "targeted", "adapted_teacher", "--adaptation.steps", 2, "--adaptation.batch-size", 4,
        "--test-sets", "test", "test_hard", "shifted", "--run-dir", run, cache=cache,
    )  # fmt: skip
    rows = results_of(run)["rows"]
    assert {row["method"] for row in rows} == {"none", "targeted", "adapted_teacher"}
    teachers = {
        method: json.loads((run / method / "config.json").read_text())["settings"]["teacher_fingerprint"]
        for method in ("targeted", "adapted_teacher")
    }
    assert teachers["targeted"] == load_teacher(str(TEACHER)).fingerprint
    assert teachers["adapted_teacher"] == load_teacher(str(run / "adapted_teacher" / "teacher")).fingerprint
    assert len(set(teachers.values())) == 2
    assert {row["test_set"] for row in rows} == {"validation", "test", "test_hard", "shifted"}
    for row in rows:
        if row["test_set"] == "test":
            predictions = run / row["method"] / "predictions_test.jsonl"
            official = score_predictions(predictions, snli_ve / "snli_ve_test.jsonl", corrections)
            assert (row["accuracy"], row["items"]) == (official["accuracy"], official["pairs"])
    shifted = [json.loads(line)["gold_label"] for line in (snli_ve / "snli_ve_shifted.jsonl").open()]
    assert 0 < shifted.count("-") == results_of(run)["pairs_without_label_in_tests"]["shifted"]
    hard = [json.loads(line)["pairID"] for line in (run / "none" / "predictions_test_hard.jsonl").open()]
    assert set(hard) < set(pairs)
    for corrected, same in ((corrections, True), (None, False)):  # hard by the run's labels
        write_hard(*files, tmp_path / "hard.jsonl", corrected_labels=corrected)
        expected = [json.loads(line)["pairID"] for line in (tmp_path / "hard.jsonl").open()]
        assert (hard == expected) is same


@pytest.mark.slow
def test_a_patch_student_answers_questions_with_a_grid_for_the_teacher_alone(
    vqa, patch_student, cache, tmp_path
):
    run = tmp_path / "run"
    run_script(
        "finetune_vqa.py", "--data-root", vqa, "--student", patch_student, "--teacher", TEACHER, *FEW, *SHORT,
        "--grid", 2, "--min-occurrences", 2, "--methods", "targeted", "--loss", "ce", "--train-split", "cp_train",
        "--test-sets", "cp_test", "--hold-out-question-types", "how many", "--run-dir", run, cache=cache,
    )  # fmt: skip
    rows = results_of(run)["rows"]
    assert {row["test_set"] for row in rows} == {"validation", "cp_test", "cp_test_held_out"}
    assert next(
        "number" not in row for row in rows if row["test_set"] == "cp_test"
    )  # "how many" alone asks for numbers
    ViltForQuestionAnswering.from_pretrained(run / "targeted" / "student")
    assert AutoTokenizer.from_pretrained(run / "targeted" / "student")("red umbrella")["input_ids"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune_vqa.py", "finetune_snli_ve.py"])
def test_the_embedded_benchmark_runs_without_arguments_of_data(name, cache, tmp_path):
    run = tmp_path / "run"
    done = run_script(name, *FEW, *SHORT, "--max-test-items", 16, "--run-dir", run, cache=cache)
    assert "none" in done.stdout
    assert f"Run folder: {run}" in done.stdout
    assert len(results_of(run)["rows"]) == 2 * 4


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("finetune_vqa.py", ("--hold-out-question-types", "why"), "no question type of"),
        ("finetune_vqa.py", ("--test-sets", "dev"), "v2_OpenEnded_mscoco_dev_questions.json does not exist"),
        ("finetune_snli_ve.py", ("--test-sets", "val"), "snli_ve_val.jsonl does not exist"),
    ],
)
def test_what_is_missing_is_said(name, arguments, message, vqa, snli_ve, cache, tmp_path):
    root = vqa if name == "finetune_vqa.py" else snli_ve
    done = run_script(
        name, "--data-root", root, *SHIPPED, *FEW, *SHORT, *arguments, "--run-dir", tmp_path / "run",
        cache=cache, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert message in done.stdout
