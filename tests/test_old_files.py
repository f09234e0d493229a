"""Run folders, stores and reinforced data of version 0.1.0 are read, and gone on with, by the code of today.

The files are copied to another place first, as a user moves them. They were made by
`fixtures/made_by_0_1_0/make.py` with the code of commit fab768c, and the uninterrupted runs' losses and weights with
them. What is read is compared exactly. What is computed again is compared within 1e-4, as the machine that made the
files may have added numbers in another order; on one machine the numbers are equal.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import ViltForQuestionAnswering, VisualBertForMultipleChoice

from cliptd.embedding.collator import OpenedPairs
from cliptd.embedding.compression import compress
from cliptd.embedding.config import Distillation
from cliptd.embedding.distillation import distil
from cliptd.embedding.pair_store import store_pairs
from cliptd.embedding.student import load_student
from cliptd.reinforcement import Reinforcement, reinforce
from cliptd.reinforcement.compact_layout import ReinforcedStore
from cliptd.reinforcement.loading import load_reinforced
from cliptd.reinforcement.training import distil_reinforced
from cliptd.store import LiveSource, StoreWriter, TeacherStore
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig, make_accelerator, read_log, train
from tasks.snli_ve.data import LABELS
from tasks.snli_ve.settings import SnliVeSplit, training_sets
from tasks.students.loading import load_classifier
from tasks.students.loading import load_student as load_task_student
from tests.fixtures.made_by_0_1_0 import material
from tests.fixtures.made_by_0_1_0.material import TEXTS, Pictures

REPOSITORY = Path(__file__).parents[1]
FILES = Path(__file__).parent / "fixtures" / "made_by_0_1_0" / "files"
EXPECTED = json.loads((FILES / "expected" / "expected.json").read_text(encoding="utf-8"))
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
KEPT = {"of the old file": True}
"""A mark in the first row of an old log: a run that goes on keeps the row, one that begins anew does not."""


@pytest.fixture(autouse=True)
def moved(tmp_path, monkeypatch) -> Path:
    """The working directory: a copy of the old files, whose names are relative to it."""
    folder = tmp_path / "moved"
    shutil.copytree(FILES, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def teacher():
    return load_teacher("models/teacher")


@pytest.fixture
def silent_teacher(teacher, monkeypatch):
    """The teacher, which must not be asked: the store holds all."""

    def asked(*arguments):
        raise AssertionError("the teacher was asked for what the store holds")

    for name in ("encode_images", "encode_texts", "embed_pixels", "embed_tokens"):
        monkeypatch.setattr(teacher, name, asked)
    return teacher


def mark(run_dir: str) -> None:
    log = Path(run_dir, "log.jsonl")
    first, *others = log.read_text().splitlines(keepends=True)
    log.write_text("".join([json.dumps(json.loads(first) | KEPT) + "\n", *others]))


def assert_went_on(run_dir: str, expected: list[dict], *, scores: bool = True) -> None:
    """Compare a log with the uninterrupted run's.

    scores: compare metrics, too. A student that has hardly learned gives nearly equal probabilities, of which rounding
        may make another one the largest.
    """
    rows = read_log(Path(run_dir, "log.jsonl"))
    assert rows[0].pop(next(iter(KEPT)), False), f"{run_dir} was begun anew"
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        metrics, other_metrics = row.pop("metrics", {}), dict(other).pop("metrics", {})
        assert row == pytest.approx({k: v for k, v in other.items() if k != "metrics"}, rel=1e-4, abs=1e-5)
        assert metrics.keys() == other_metrics.keys()
        assert not scores or metrics == pytest.approx(other_metrics, rel=1e-4, abs=1e-5)


def weights_of(file: str | Path) -> dict[str, torch.Tensor]:
    """The weights in a file without attention's key biases: softmax takes them away, so they learn rounding noise."""
    weights = load_file(file)
    for name, value in weights.items():
        if name.endswith("in_proj_bias"):  # of queries, keys and values
            value.chunk(3)[1].zero_()
        elif name.endswith("key.bias"):
            value.zero_()
    return weights


def assert_same_weights(file: str | Path, name: str) -> None:
    found, expected = weights_of(file), weights_of(f"expected/{name}.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, **TOLERANCE, msg=lambda text, key=key: f"{key}: {text}")


def last_weights(run_dir: str) -> Path:
    """The weights in the run's only checkpoint."""
    (folder,) = Path(run_dir, "checkpoints").iterdir()
    return folder / "model.safetensors"


def dates_of(*patterns: str) -> dict[Path, int]:
    """When each file was written."""
    files = [path for pattern in patterns for path in Path().glob(pattern) if path.is_file()]
    assert files
    return {path: path.stat().st_mtime_ns for path in files}


def run_command(name: str, arguments: tuple, cache: Path) -> str:
    """Run a command as a user types it; its output comes back."""
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "CLIPTD_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, str(REPOSITORY / "scripts" / name), *map(str, arguments)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, env=environment, timeout=280, **output)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def train_classifier(run_dir, evaluate=material.score_of, settings=material.CLASSIFIER):
    model, points = material.Classifier(), material.Points()
    options = {"evaluate": evaluate, "settings": material.OTHER_SETTINGS}
    config = TrainingConfig(**settings)
    return model, train(model, points, material.collate_points, config, run_dir=run_dir, **options)


def test_a_killed_training_run_goes_on():
    mark("classifier/killed")
    model, result = train_classifier("classifier/killed")
    expected = EXPECTED["classifier"]
    assert_went_on("classifier/killed", expected["log"])
    assert_same_weights(last_weights("classifier/killed"), "classifier")
    assert (result.best_step, result.steps) == (expected["best_step"], 8)
    assert [path.name for path in Path("classifier/killed").glob("best-*")] == [
        f"best-{result.best_step:08d}.safetensors"
    ]
    assert not model.training


def test_a_finished_training_run_makes_no_step_and_gives_the_best_weights():
    def evaluate(model):
        raise AssertionError("a finished run is evaluated again")

    log = Path("classifier/finished/log.jsonl").read_bytes()
    best = load_file(f"classifier/finished/best-{material.BEST_STEP:08d}.safetensors")
    before = dates_of("classifier/finished/checkpoints/*/*", "classifier/finished/best-*")
    model, result = train_classifier("classifier/finished", evaluate, material.FINISHED)
    assert (result.best_step, result.steps) == (material.BEST_STEP, 6)
    assert result.best_metrics == {"score": max(material.SCORES)}
    assert [row["metrics"]["score"] for row in result.history if "metrics" in row] == list(material.SCORES)
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
    assert Path("classifier/finished/log.jsonl").read_bytes() == log
    assert dates_of("classifier/finished/checkpoints/*/*", "classifier/finished/best-*") == before


def test_an_old_run_is_refused_by_another_setting():
    with pytest.raises(ValueError, match=r"lr is 0\.02 there, 0\.03 here"):
        train_classifier("classifier/killed", settings={**material.CLASSIFIER, "lr": 0.03})


def student_options(run_dir: str) -> dict:
    training = TrainingConfig(**material.STUDENT_TRAINING)
    options = {"evaluate": material.Alike(), "accelerator": make_accelerator(training, run_dir)}
    return {"run_dir": Path(run_dir), **options}


def student_settings(**changes) -> Distillation:
    return Distillation(training=TrainingConfig(**material.STUDENT_TRAINING), **changes)


def test_a_killed_distillation_of_embeddings_goes_on_with_its_store(silent_teacher):
    mark("distillation/run")
    before = dates_of("distillation/store/*")
    options, settings = student_options("distillation/run"), student_settings(**material.DISTILLATION)
    student = load_student("models/student")
    result = distil(student, silent_teacher, Pictures(bad=True), settings, **options)
    expected = EXPECTED["distillation"]
    assert_went_on("distillation/run", expected["log"])
    assert_same_weights(last_weights("distillation/run"), "distillation")
    assert result.best_step == expected["best_step"]
    assert options["evaluate"].calls == 2  # after steps 4 and 6
    assert dates_of("distillation/store/*") == before
    assert Path("distillation/run/bad_samples.txt").read_text() == "image broken.png is corrupt\n"
    again = distil(load_student("models/student"), silent_teacher, Pictures(bad=True), settings, **options)
    assert (again.best_step, options["evaluate"].calls) == (result.best_step, 2)


def test_another_student_or_teacher_is_refused_by_an_old_distillation(teacher):
    settings = student_settings(**material.DISTILLATION)
    with pytest.raises(ValueError, match="student is 'models/student' there, 'models/teacher' here"):
        distil(
            load_student("models/teacher"),
            teacher,
            Pictures(bad=True),
            settings,
            **student_options("distillation/run"),
        )
    other = load_teacher("models/student")
    with pytest.raises(ValueError, match="was made by sha256:"):
        distil(
            load_student("models/student"),
            other,
            Pictures(bad=True),
            settings,
            **student_options("distillation/run"),
        )


def test_a_killed_run_on_reinforced_data_goes_on():
    mark("reinforced_training/run")
    student, options = load_student("models/student"), student_options("reinforced_training/run")
    dataset = ReinforcedStore("reinforced/compact", Pictures())
    result = distil_reinforced(student, dataset, student_settings(objective="reinforced"), **options)
    expected = EXPECTED["reinforced_training"]
    assert_went_on("reinforced_training/run", expected["log"])
    assert_same_weights(last_weights("reinforced_training/run"), "reinforced_training")
    assert (result.best_step, options["evaluate"].calls) == (expected["best_step"], 2)


def test_killed_stages_of_compression_go_on(silent_teacher):
    mark("stages/stage-0.5/run")
    before = dates_of("stages/store/*", "stages/stage-1/**/*")
    student, options = load_student("models/teacher"), student_options("stages")
    settings = student_settings(**material.COMPRESSION)
    rows = compress(
        student, silent_teacher, Pictures(), settings, material.SHARES, learned_masks=False, **options
    )
    expected = EXPECTED["stages"]
    assert_went_on("stages/stage-0.5/run", expected["log"])
    assert_same_weights(last_weights("stages/stage-0.5/run"), "stages")
    assert dates_of("stages/store/*", "stages/stage-1/**/*") == before
    assert rows[0] == expected["rows"][0]
    assert rows[1] == pytest.approx(expected["rows"][1], rel=1e-4)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "pairs"])
def test_a_store_is_read(name, teacher):
    expected = EXPECTED["stores"]
    assert teacher.fingerprint == expected["fingerprint"]
    store, found = TeacherStore.open(f"stores/{name}", teacher), expected[name]
    assert (store.fingerprint, store.name) == (expected["fingerprint"], expected["name"])
    assert (store.identity, store.counts) == (found["identity"], found["counts"])
    assert (store.logit_scale, store.logit_bias, store.embed_dim) == (found["logit_scale"], None, 8)
    for kind in ("images", "regions", "texts"):
        keys = list(getattr(store, kind))
        assert keys == list(found[kind])
        if keys:
            embeds = getattr(store, f"{kind.removesuffix('s')}_embeds")(keys[::-1])
            assert embeds.tolist() == list(found[kind].values())[::-1]
    assert store.image_mean().tolist() == found["mean"]
    with pytest.raises(ValueError, match="was made by sha256:"):
        TeacherStore.open(f"stores/{name}", load_teacher("models/student"))


@pytest.mark.parametrize(("name", "bound"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_a_store_holds_what_the_teacher_says_today_and_grows(name, bound, teacher):
    live = LiveSource(teacher)
    old = {path: path.read_bytes() for path in Path("stores", name).glob("*-*")}
    with StoreWriter(f"stores/{name}", teacher, dtype=name, shard_size=3) as writer:
        writer.text_embeds([*TEXTS, material.NEW_TEXT])
        writer.image_embeds(
            [f"{number}.png" for number in range(len(TEXTS))], [None] * len(TEXTS)
        )  # all are known
    assert {path: path.read_bytes() for path in old} == old
    store = TeacherStore.open(f"stores/{name}", teacher)
    assert store.counts == EXPECTED["stores"][name]["counts"] | {"texts": len(TEXTS) + 1}
    keys = [f"{number}.png" for number in range(len(TEXTS))]
    regions = list(store.regions)
    for stored, asked in (
        (store.text_embeds([*TEXTS, material.NEW_TEXT]), live.text_embeds([*TEXTS, material.NEW_TEXT])),
        (store.image_embeds(keys), live.image_embeds(keys, [Pictures().open(k) for k in range(len(keys))])),
        (store.region_embeds(regions), live.region_embeds(regions, [material.region(k) for k in range(3)])),
    ):
        torch.testing.assert_close(stored, asked, rtol=0, atol=bound + 1e-5)


def test_pairs_that_a_store_was_filled_with_are_not_gone_through_again(silent_teacher):
    before = dates_of("stores/pairs/*", "stores/pairs/passes/*")
    pairs = Pictures(opens=False)
    assert store_pairs("stores/pairs", silent_teacher, OpenedPairs(pairs)) == []
    assert dates_of("stores/pairs/*", "stores/pairs/passes/*") == before
    shutil.rmtree("stores/pairs/passes")  # then each pair is looked up, and no image is opened
    assert store_pairs("stores/pairs", silent_teacher, OpenedPairs(pairs)) == []
    assert [path.name for path in Path("stores/pairs/passes").iterdir()] == [
        path.name for path in before if path.parent.name == "passes"
    ]


def read_reinforced(layout: str):
    if layout == "compact":
        return ReinforcedStore("reinforced/compact", Pictures())
    return load_reinforced("reinforced/public")


@pytest.mark.parametrize("layout", ["compact", "public"])
def test_reinforced_data_are_read(layout):
    dataset, expected = read_reinforced(layout), EXPECTED["reinforced"][layout]
    assert len(dataset) == len(TEXTS)
    assert list(dataset.skipped) == []
    assert dataset.identity == expected["identity"]
    assert json.loads(dataset.card.to_json()) == expected["card"]
    assert [material.as_lists(dataset[number]) for number in range(len(TEXTS))] == expected["samples"]


@pytest.mark.parametrize("layout", ["compact", "public"])
def test_a_reinforced_folder_is_gone_on_with(layout, teacher):
    settings = Reinforcement(**material.REINFORCEMENT, layout=layout)
    again = {"out": f"reinforced/{layout}", "captioner": material.Captions()}
    before = dates_of(f"reinforced/{layout}/reinforced-*", f"reinforced/{layout}/reinforcement.json")
    assert reinforce(Pictures(), teacher, settings, **again) == 0
    assert dates_of(f"reinforced/{layout}/reinforced-*", f"reinforced/{layout}/reinforcement.json") == before
    old = [
        material.as_lists(sample) for sample in map(read_reinforced(layout).__getitem__, range(len(TEXTS)))
    ]
    for path in Path("reinforced", layout).glob("reinforced-00001.*"):
        path.unlink()
    assert reinforce(Pictures(), teacher, settings, **again) == 4
    dataset = read_reinforced(layout)
    for number, expected in enumerate(old):
        found = material.as_lists(dataset[number])
        for name in ("image_embeds", "text_embeds"):
            atol = 2**-10 if layout == "compact" else 1e-4
            embeds = (torch.tensor(one.pop(name)) for one in (found, expected))
            torch.testing.assert_close(*embeds, rtol=0, atol=atol)
        assert found == expected
    with pytest.raises(ValueError, match=r"made_of\.seed is 1 there, 2 here"):
        reinforce(
            Pictures(),
            teacher,
            Reinforcement(**{**material.REINFORCEMENT, "seed": 2}, layout=layout),
            **again,
        )


def test_saved_students_are_read(teacher):
    expected = EXPECTED["students"]
    student = load_task_student("models/visual_bert").eval()
    assert student.fresh_parameters == ()
    batch = {name: torch.tensor(value) for name, value in expected["batch"].items()}
    with torch.no_grad():
        logits = student(**batch).logits
    torch.testing.assert_close(logits, torch.tensor(expected["logits"]), **TOLERANCE)
    assert isinstance(student.native, VisualBertForMultipleChoice)
    saved = load_student("models/saved_open_clip")
    image = [Pictures().open(0)]
    for found, name in (
        (saved.encode_texts(TEXTS[:2]), "open_clip_texts"),
        (saved.encode_images(image), "open_clip_images"),
        (load_teacher("models/saved_open_clip").encode_images(image), "open_clip_images"),
        (teacher.encode_texts(TEXTS[:2]), "teacher_texts"),
    ):
        torch.testing.assert_close(found, torch.tensor(expected[name]), **TOLERANCE)


def test_a_killed_fine_tuning_command_goes_on(tmp_path):
    run = Path("finetuning/run")
    for method in ("targeted", "adapted_teacher"):
        mark(f"{run}/{method}")
    finished = (
        "targeted/checkpoints/*/*",
        "targeted/best-*",
        "adapted_teacher/teacher/**/*",
        "store-*/*",
        "*/store-*/*",
    )
    patterns = [f"{run}/{pattern}" for pattern in finished]
    written_anew = ("config.json", "log.jsonl", ".lock")  # with the same content, by a run that goes on
    before = {path: date for path, date in dates_of(*patterns).items() if path.name not in written_anew}
    run_command("finetune_snli_ve.py", material.FINETUNE, tmp_path / "cache")
    after = dates_of(*patterns)
    assert {path: date for path, date in after.items() if path.name not in written_anew} == before
    expected = EXPECTED["finetuning"]
    results = json.loads((run / "results.json").read_text())
    for method, log in expected["logs"].items():
        assert_went_on(f"{run}/{method}", log, scores=False)
        assert_same_weights(run / method / "student" / "model.safetensors", f"finetuning_{method}")
        student = load_classifier(run / method / "student", LABELS)
        assert (student.fresh_parameters, type(student.native)) == ((), ViltForQuestionAnswering)
    assert expected["results"].keys() <= results.keys()
    assert results["split"] == expected["results"]["split"]
    same = ("method", "test_set", "labelled", "seed", "items")
    for row, other in zip(results["rows"], expected["results"]["rows"], strict=True):
        assert {name: row[name] for name in same} == {name: other[name] for name in same}
        assert other.keys() <= row.keys()


def test_finished_cells_of_a_low_shot_grid_are_not_run_again(tmp_path):
    rows = Path("low_shot/results.jsonl").read_text()
    cells, settings = dates_of("low_shot/cells/**/*"), Path("low_shot/settings.json").read_text()
    assert len(cells) == 2 * 2 * 2
    Path("low_shot/results.jsonl").unlink()
    run_command("evaluate_low_shot.py", material.LOW_SHOT, tmp_path / "cache")
    assert dates_of("low_shot/cells/**/*") == cells
    found, expected = ([json.loads(row) for row in text.splitlines()] for text in (
        Path("low_shot/results.jsonl").read_text(), rows
    ))  # fmt: skip
    assert found == expected
    assert Path("low_shot/settings.json").read_text() == settings


@pytest.mark.parametrize("seed", material.SPLIT_SEEDS)
@pytest.mark.parametrize("fraction", material.SPLIT_FRACTIONS)
def test_splits_are_those_of_the_old_files(fraction, seed):
    written = json.loads(Path("splits", f"snli_ve_{fraction:g}_seed{seed}.json").read_text())
    split = SnliVeSplit(data_root=Path("snli_ve"), fraction=fraction, validation_items=6)
    labelled, validation, description = training_sets(split, seed)
    assert labelled.unique_ids() == written["labelled"]
    assert validation.unique_ids() == written["validation"]
    about = {"task": "snli_ve", "fraction": fraction, "seed": seed}
    assert written == written | about | description
