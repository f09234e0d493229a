"""finetune_vcr.py, build_store.py and benchmark_overhead.py as typed, on iconworld and on official files."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, ViltForMaskedLM, ViltImageProcessor, VisualBertForMultipleChoice

from tasks.iconworld.files.captions import CaptionSizes, write_captions
from tests.helpers.commands import command_of, environment, run_script
from tests.helpers.tiny_clip import tiny_open_clip_folder
from tests.helpers.tiny_vcr import pair_tokenizer, tiny_config, tiny_vcr

FEW = ("--items", 24, "--validation-items", 24, "--max-test-items", 16)
SHORT = ("--steps", 4, "--eval-every", 2, "--save-every", 2, "--warmup-steps", 1, "--batch-size", 8)


def test_the_first_command_ends_in_a_table_and_a_run_folder(cache, tmp_path):
    run = tmp_path / "run"
    first = run_script("finetune_vcr.py", *FEW, *SHORT, "--run-dir", run, cache=cache)
    assert "Q→AR" in first.stdout
    assert f"Run folder: {run}" in first.stdout
    results = json.loads((run / "results.json").read_text())
    methods = {row["method"] for row in results["rows"]}
    sets = {row["test_set"] for row in results["rows"]}
    assert methods == {"none", "targeted"}
    assert sets == {"validation", "val", "singular", "val_shifted"}
    assert all(row["items"] == 16 for row in results["rows"] if row["test_set"] != "validation")
    assert results["split"]["labelled_items"] == 24
    assert {"data", "teacher", "training", "distillation"} <= set(results["settings"])
    for name in ("report.md", "learning_curves.png", "targeted/config.json", "targeted/log.jsonl"):
        assert (run / name).is_file()

    # the student is transformers' own, without a trace of the teacher
    student = VisualBertForMultipleChoice.from_pretrained(run / "targeted" / "student")
    assert not any("head" in name or "teacher" in name for name in student.state_dict())
    assert AutoTokenizer.from_pretrained(run / "targeted" / "student")("red umbrella")["input_ids"]

    # the same command again finds everything done and says the same
    log = (run / "targeted" / "log.jsonl").read_bytes()
    run_script("finetune_vcr.py", *FEW, *SHORT, "--run-dir", run, cache=cache)
    assert json.loads((run / "results.json").read_text())["rows"] == results["rows"]
    assert (run / "targeted" / "log.jsonl").read_bytes() == log

    # and another setting in the same folder is refused by name
    changed = run_script(
        "finetune_vcr.py", *FEW, *SHORT, "--lr", 3e-3, "--run-dir", run, cache=cache, check=False
    )
    assert changed.returncode != 0
    assert "lr" in changed.stdout


def test_a_store_built_before_gives_the_run_its_teacher(cache, tmp_path):
    store = tmp_path / "store"
    built = run_script(
        "build_store.py", "--task", "vcr", "--out", store, "--", *FEW, launcher=None, cache=cache
    )
    report, _ = json.JSONDecoder().raw_decode(built.stdout[built.stdout.index("{\n") :])
    assert report["images"] > 0
    assert report["texts"] > report["images"]
    assert report["images_per_second"] > 0
    rows = {}
    for source in (("--store", store), ("--source", "live")):
        run = tmp_path / f"run{source[0]}"
        run_script(
            "finetune_vcr.py", *FEW, *SHORT, "--methods", "targeted", *source, "--run-dir", run, cache=cache
        )
        lines = (run / "targeted" / "log.jsonl").read_text().splitlines()
        rows[source[0]] = [json.loads(line)["loss"] for line in lines]
    # stored and live differ by float16's rounding and by the calibration pictures of the mean image alone
    assert torch.allclose(torch.tensor(rows["--store"]), torch.tensor(rows["--source"]), atol=0.05)

    # the same run goes on with the store moved, and not with one whose mean image is of more images
    moved, larger = store.rename(tmp_path / "moved"), tmp_path / "larger"
    more = ("--items", 48, *FEW[2:])
    run_script("build_store.py", "--task", "vcr", "--out", larger, "--", *more, launcher=None, cache=cache)
    again = ("finetune_vcr.py", *FEW, *SHORT, "--methods", "targeted", "--run-dir", tmp_path / "run--store")
    run_script(*again, "--store", moved, cache=cache)
    refused = run_script(*again, "--store", larger, cache=cache, check=False)
    assert refused.returncode != 0
    assert "settings.source is 'float16 store of" in refused.stdout

    missing = run_script(
        "finetune_vcr.py", "--items", 48, *FEW[2:], *SHORT, "--methods", "targeted", "--store", moved,
        "--run-dir", tmp_path / "more", cache=cache, check=False,
    )  # fmt: skip
    assert missing.returncode != 0
    assert "build_store.py" in missing.stdout


@pytest.fixture
def official(tmp_path):
    """Small official files, a tiny ViLT and a tiny CLIP."""
    root = tiny_vcr(tmp_path / "vcr1", items=24, split="train")
    tiny_vcr(root, items=8, split="val")
    tiny_vcr(root, items=4, split="test", labels=False)
    tokenizer = pair_tokenizer()
    student = tmp_path / "vilt"
    ViltForMaskedLM(tiny_config("vilt", len(tokenizer))).save_pretrained(student)
    tokenizer.save_pretrained(student)
    ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=16).save_pretrained(student)
    return root, student, tiny_open_clip_folder(tmp_path / "clip")


def test_real_files_with_vilt_and_a_clip_teacher(cache, official, tmp_path):
    root, student, teacher = official
    run = tmp_path / "run"
    done = run_script(
        "finetune_vcr.py", "--data-root", root, "--student", student, "--teacher", teacher,
        "--fraction", 0.5, "--validation-items", 8, *SHORT, "--micro-batch-size", 8, "--methods", "naive",
        "targeted", "--test-sets", "val", "--leaderboard", "--track", "tensorboard", "--run-dir", run, cache=cache,
    )  # fmt: skip
    assert "validation" in done.stdout
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert {(row["method"], row["test_set"]) for row in rows} == {
        (method, test_set) for method in ("naive", "targeted") for test_set in ("validation", "val")
    }
    assert list(run.rglob("events.out.tfevents.*"))
    lines = (run / "targeted" / "leaderboard.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert len(lines[0].split(",")) == 21


def test_accumulation_of_a_coupled_objective_is_refused_with_the_way_out(cache, official, tmp_path):
    root, student, teacher = official
    common = (
        "--data-root", root, "--student", student, "--teacher", teacher, "--validation-items", 8, *SHORT,
        "--micro-batch-size", 4, "--test-sets", "val",
    )  # fmt: skip
    refused = run_script("finetune_vcr.py", *common, "--run-dir", tmp_path / "a", cache=cache, check=False)
    assert refused.returncode != 0
    assert "normalise_weights=False" in refused.stdout
    allowed = (*common, "--distillation.normalise-weights", "False", "--run-dir", tmp_path / "b")
    run_script("finetune_vcr.py", *allowed, cache=cache)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data-root", "nowhere"), "nowhere/train.jsonl does not exist"),
        (("--methods", "magic"), "magic"),
        (("--distillation.mass", "2"), "mass is 2"),
        (("--teacher", "ViT-B-3"), "ViT-B-32"),
        (("--regions", "None"), "name a backbone"),
        (("--adaptation.resume", "never"), "adaptation.resume is 'never'"),
    ],
)
def test_bad_arguments_are_named(cache, tmp_path, arguments, message):
    done = run_script(
        "finetune_vcr.py",
        *FEW,
        *SHORT,
        "--run-dir",
        tmp_path,
        *arguments,
        launcher=None,
        cache=cache,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stdout


def test_the_overhead_benchmark_measures_every_kind_of_step(cache):
    done = run_script(
        "benchmarks/benchmark_overhead.py",
        "--steps",
        2,
        "--batch-size",
        4,
        "--device",
        "cpu",
        launcher=None,
        cache=cache,
    )
    report = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert set(report["median_ratio_to_plain"]) == {"stored", "live"}
    assert all(value > 0 for value in report["median_ms"].values())


def losses(run_dir) -> list[float]:
    return [json.loads(line)["loss"] for line in (run_dir / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(cache, official, tmp_path):
    root, student, teacher = official
    common = (
        "--data-root", root, "--student", student, "--teacher", teacher, "--validation-items", 8, *SHORT,
        "--eval-every", 0, "--methods", "targeted", "--test-sets", "val",
    )  # fmt: skip
    runs = {}
    for launcher in ("accelerate", "two processes"):
        run = tmp_path / launcher
        run_script("finetune_vcr.py", *common, "--run-dir", run, cache=cache, launcher=launcher)
        rows = json.loads((run / "results.json").read_text())["rows"]
        student = load_file(run / "targeted" / "student" / "model.safetensors")
        runs[launcher] = rows, torch.tensor(losses(run / "targeted")), student
    (rows, one, student), (rows_of_two, two, student_of_two) = runs.values()
    assert torch.allclose(one, two, atol=2e-4)
    assert all(torch.allclose(student[key], student_of_two[key], atol=1e-4) for key in student)
    # an untrained student's probabilities are nearly ties, which rounding may turn: what was scored must agree
    scored = [(row["test_set"], row["items"], row["best_step"]) for row in rows]
    assert scored == [(row["test_set"], row["items"], row["best_step"]) for row in rows_of_two]


@pytest.mark.slow
def test_a_patch_student_runs_on_the_embedded_benchmark(cache, official, tmp_path):
    _, student, _ = official
    run = tmp_path / "run"
    run_script("finetune_vcr.py", *FEW, *SHORT, "--student", student, "--run-dir", run, cache=cache)
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"none", "targeted"}
    log = [json.loads(line) for line in (run / "targeted" / "log.jsonl").read_text().splitlines()]
    assert all(row["loss_words"] > 0 and row["loss_regions"] == 0 for row in log)  # patches are no boxes


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(cache, tmp_path):
    arguments = (*FEW, *SHORT, "--save-every", 1, "--methods", "targeted")
    run_script("finetune_vcr.py", *arguments, "--run-dir", tmp_path / "whole", cache=cache)
    command = command_of("finetune_vcr.py", (*arguments, "--run-dir", tmp_path / "killed"), None)
    log = tmp_path / "killed" / "targeted" / "log.jsonl"
    with open(tmp_path / "output", "w") as output:
        victim = subprocess.Popen(
            command, env=environment(cache), stdout=output, stderr=output, start_new_session=True
        )
        while victim.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 2):
            time.sleep(0.02)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
    assert not (tmp_path / "killed" / "results.json").exists()
    run_script("finetune_vcr.py", *arguments, "--run-dir", tmp_path / "killed", cache=cache, launcher=None)
    students = [
        load_file(tmp_path / name / "targeted" / "student" / "model.safetensors")
        for name in ("whole", "killed")
    ]
    assert all(torch.equal(students[0][key], students[1][key]) for key in students[0])
    assert losses(tmp_path / "whole" / "targeted") == losses(tmp_path / "killed" / "targeted")


@pytest.mark.slow
def test_held_out_movies_idf_and_bad_samples(cache, official, tmp_path):
    root, student, teacher = official
    lines = [json.loads(line) for line in (root / "train.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["movie"] = "other_movie" if number % 3 == 0 else line["movie"]
    lines[1]["objects"][0] = "dragon"
    (root / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run_script(
        "finetune_vcr.py", "--data-root", root, "--student", student, "--teacher", teacher, *SHORT,
        "--validation-items", 4, "--hold-out-movies", "other", "--on-bad-sample", "skip",
        "--distillation.semantic", "idf", "--test-sets", "val", "singular", "plural",
        "--run-dir", tmp_path / "run", cache=cache,
    )  # fmt: skip
    assert "1 samples skipped" in done.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert "dragon" in results["split"]["bad_samples_left_out"][0]
    held = next(row for row in results["rows"] if row["test_set"] == "held-out movies")
    assert held["items"] == sum(line["movie"] == "other_movie" for line in lines)
    assert results["split"]["labelled_items"] + results["split"]["validation_items"] == 24 - held["items"] - 1


@pytest.mark.slow
def test_unlabelled_images_and_texts_are_distilled_beside_the_labelled_ones(cache, tmp_path):
    captions = write_captions(tmp_path / "captions", sizes=CaptionSizes(12, 40))
    arguments = (*FEW, *SHORT, "--unlabelled", captions / "unseen.jsonl", "--unlabelled-weight", 0.5)
    run_script("finetune_vcr.py", *arguments, "--run-dir", tmp_path / "run", cache=cache)
    for method, expected in (("none", False), ("targeted", True)):
        log = [
            json.loads(line) for line in (tmp_path / "run" / method / "log.jsonl").read_text().splitlines()
        ]
        assert all(("loss_unlabelled" in row) == expected for row in log)
        if expected:
            total = log[0]["loss_task"] + log[0]["loss_distillation"] + 0.5 * log[0]["loss_unlabelled"]
            assert log[0]["loss"] == pytest.approx(total, rel=1e-4)
    other = run_script(
        "finetune_vcr.py", *FEW, *SHORT, "--run-dir", tmp_path / "run", cache=cache, check=False
    )  # another training
    assert "unlabelled" in other.stdout
    assert other.returncode != 0


@pytest.mark.slow
def test_a_student_that_reads_the_teachers_embedding_is_a_control(cache, tmp_path):
    run = tmp_path / "run"
    run_script(
        "finetune_vcr.py", *FEW, *SHORT, "--methods", "none", "teacher_input", "--run-dir", run, cache=cache
    )
    logs = {method: losses(run / method) for method in ("none", "teacher_input")}
    assert logs["none"][0] == logs["teacher_input"][0]  # the embedding starts at zero
    assert logs["none"] != logs["teacher_input"]
    assert VisualBertForMultipleChoice.from_pretrained(run / "teacher_input" / "student")
    assert (
        load_file(run / "teacher_input" / "student" / "teacher_input.safetensors")["weight"].abs().sum() > 0
    )
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert {row["test_set"] for row in rows if row["method"] == "teacher_input"} == {
        "validation", "val", "singular", "val_shifted",
    }  # fmt: skip
