"""Runs of distill_embeddings.py: what is checked before training, what a finished one says."""

import dataclasses
import json

import pytest
from PIL import Image

from cliptd.data.identity import identity_of
from cliptd.teachers import loading
from tasks.embeddings import training
from tasks.embeddings.results import conclusion, table_rows
from tasks.embeddings.run import finished_rows
from tasks.embeddings.settings import DistillEmbeddings
from tasks.embeddings.training import train
from tasks.iconworld.files.pairs import IconworldPairs

ROWS = [
    {"model": "teacher big", "parameters": 2_000_000, "top1": 98.2, "top5": 100.0},
    {"model": "0.5 of big", "parameters": 1_000_000, "top1": 95.0, "top5": 99.0, "best_step": 300},
]


@pytest.fixture
def asked(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "classes" / name / "a.png")
    (tmp_path / "pairs").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pairs" / "a.png")
    (tmp_path / "pairs" / "a.txt").write_text("a cat")
    return DistillEmbeddings(
        data=str(tmp_path / "pairs"), zero_shot=tmp_path / "classes", teacher=str(tmp_path / "no teacher"),
        run_dir=tmp_path / "run",
    )  # fmt: skip


def broken_image(asked):
    (asked.zero_shot / "cat" / "a.png").write_bytes(b"broken")
    return asked


def broken_pair(asked):
    (asked.run_dir.parent / "pairs" / "a.png").write_bytes(b"broken")
    return asked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda asked: dataclasses.replace(asked, zero_shot=asked.zero_shot / "no"), "no such folder"),
        (
            lambda asked: dataclasses.replace(asked, templates=asked.zero_shot / "no.txt"),
            "one template per line",
        ),
        (
            lambda asked: dataclasses.replace(asked, data="no/shards.tar"),
            "shard no/shards.tar does not exist",
        ),
        (broken_image, "a.png"),
        (broken_pair, "a.png"),
        (lambda asked: asked, "no teacher does not exist"),
    ],
)
def test_files_are_looked_at_before_the_teacher_is_loaded(change, message, asked, monkeypatch):
    loaded = []

    def load(name, *arguments, **options):
        loaded.append(name)
        return loading.load_teacher(name, *arguments, **options)

    monkeypatch.setattr(training, "load_teacher", load)
    with pytest.raises((ValueError, OSError), match=message):
        train(change(asked))
    assert loaded == ([asked.teacher] if "teacher" in message else [])


def test_the_student_is_loaded_before_the_teacher_is_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "zero_shot", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(ValueError, match="open_clip has no model named 'ViT-B-23'"):
        train(DistillEmbeddings(student="ViT-B-23", run_dir=tmp_path))


def test_a_finished_run_is_known_by_its_settings_and_data(tmp_path):
    asked = DistillEmbeddings(run_dir=tmp_path)
    assert finished_rows(asked) is None
    settings = json.loads(json.dumps(dataclasses.asdict(asked), default=str))
    stored = {"settings": settings, "data": identity_of(IconworldPairs()), "rows": ROWS}
    (tmp_path / "results.json").write_text(json.dumps(stored))
    assert finished_rows(asked) == ROWS
    faster = dataclasses.replace(
        asked, training=dataclasses.replace(asked.training, num_workers=1, save_every=7)
    )
    assert finished_rows(faster) == ROWS
    assert finished_rows(dataclasses.replace(asked, share=0.3)) is None
    again = dataclasses.replace(asked.training, resume="never")
    assert finished_rows(dataclasses.replace(asked, training=again)) is None
    (tmp_path / "results.json").write_text(json.dumps({**stored, "data": "other"}))
    assert finished_rows(asked) is None


def test_the_conclusion_compares_with_the_teacher_if_both_were_scored():
    assert conclusion(ROWS) == (
        "0.5 of big reaches 95.0 of its teacher's 98.2 % top-1 zero-shot with 50 % of its parameters (one seed)."
    )
    assert conclusion(ROWS[1:]) == "0.5 of big reaches 95.0 % top-1 zero-shot (one seed)."
    assert "nothing was scored" in conclusion(
        [{"model": "a", "parameters": 1}, {"model": "b", "parameters": 1}]
    )


def test_the_table_names_its_columns_in_words():
    assert table_rows(ROWS)[1] == {
        "model": "0.5 of big", "million parameters": 1.0, "top-1": 95.0, "top-5": 99.0, "best step": 300,
    }  # fmt: skip
    assert list(table_rows([{"model": "a", "parameters": 1}])[0]) == ["model", "million parameters"]
