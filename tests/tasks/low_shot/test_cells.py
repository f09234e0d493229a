"""What a process of a grid does with one run."""

import json
import math
from types import SimpleNamespace

import pytest

from tasks.finetuning import finetune as finetuning
from tasks.known_tasks import TASKS
from tasks.low_shot.cells import RESUMED, check_grid, is_finished, run_cell, validation_score
from tasks.low_shot.grid import Grid
from tests.tasks.low_shot.rows import row

KNOWN = SimpleNamespace(task_class=object)


@pytest.fixture
def one(tmp_path):
    training = SimpleNamespace(metric="accuracy")
    return SimpleNamespace(run_dir=tmp_path, test_sets=("test",), training=training)


def trains(monkeypatch, result):
    def train(settings, task_class, name):
        assert name == "a run"
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(finetuning, "finetune", train)


def test_a_run_that_diverged_is_said_and_not_run_again(one, monkeypatch):
    trains(monkeypatch, FloatingPointError("the loss\nis nan at step 3"))
    for _ in range(2):
        assert run_cell(one, KNOWN, "a run") == f"{one.run_dir.name}: the loss is nan at step 3"
        monkeypatch.setattr(finetuning, "finetune", None)
    assert validation_score(one, KNOWN, "a run") == -math.inf
    assert is_finished(one)


def test_a_test_set_that_is_added_is_scored_in_finished_cells(one, monkeypatch):
    trains(monkeypatch, ["anew"])
    (one.run_dir / "results.json").write_text(json.dumps({"rows": [row("none", 1, 40.0)]}))
    assert run_cell(one, KNOWN, "a run") == [row("none", 1, 40.0)]
    one.test_sets = ("test", "shifted")
    assert not is_finished(one)
    assert run_cell(one, KNOWN, "a run") == ["anew"]


def test_a_run_that_goes_on_is_marked_so_that_its_seconds_do_not_count(one, monkeypatch):
    trains(monkeypatch, [])
    run_cell(one, KNOWN, "a run")
    assert not (one.run_dir / RESUMED).exists()
    (one.run_dir / "none").mkdir()
    (one.run_dir / "none" / "log.jsonl").touch()
    run_cell(one, KNOWN, "a run")
    assert (one.run_dir / RESUMED).exists()


def test_the_score_of_a_trial_is_that_of_validation(one, monkeypatch):
    trains(monkeypatch, [row("none", 1, 40.0), row("none", 1, 77.0, test_set="validation")])
    assert validation_score(one, KNOWN, "a run") == 77.0


def test_more_labels_than_there_are_items_are_refused_before_anything_is_trained(tmp_path):
    def sets(data, seed):
        asked.append((data.items, seed))
        if data.items > 60:
            raise ValueError("items is 70, expected 1 to 60")

    asked = []
    known = SimpleNamespace(training_sets=sets)
    grid = Grid(out=tmp_path, items=(50, 70), seeds=(3,))
    with pytest.raises(ValueError, match="items is 70, expected 1 to 60"):
        check_grid(grid, TASKS["snli_ve"].settings(), known, ["none"])
    assert asked == [(50, 3), (70, 3)]
