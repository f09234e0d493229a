"""Grids that cannot be, and the table of a grid by hand."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.low_shot import grid as low_shot
from tasks.low_shot.grid import Grid, Outcome, cell_or_divergence, run_cell, summary
from tasks.low_shot.report import write_report


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give fractions or items"),
        ({"items": (5,), "fractions": (0.1,)}, "give fractions or items, and not both"),
        ({"items": (5, 6), "steps_at": (3,)}, "steps_at holds 1 numbers for 2 numbers of labels"),
        ({"items": (5,), "tuned_at": 1}, "tuned_at is 1, expected 0 to 0"),
        ({"items": (5,), "seeds": (1, 1)}, r"seeds are \(1, 1\); expected at least one, each once"),
        (
            {"items": (5,), "seeds": (1000,)},
            r"tuning_seeds and seeds share \[1000\]; tune with seeds of their own",
        ),
        (
            {"items": (5,), "first_seeds": {"naive": 0}},
            "first_seeds gives naive 0 seeds, expected at least 1",
        ),
        ({"fractions": (0.1,), "methods": ()}, r"methods are \(\); expected at least one"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Grid(out=Path("grid"), **settings)


def row(method, seed, score, test_set="test", labelled=10):
    return {"method": method, "seed": seed, "test_set": test_set, "labelled": labelled, "accuracy": score}


GRID = Grid(out=Path("grid"), items=(10,), methods=("none", "targeted"), seeds=(1, 2, 3))
ROWS = [
    *(row("none", seed, score) for seed, score in ((1, 40.0), (2, 50.0), (3, 60.0))),
    *(row("targeted", seed, score) for seed, score in ((3, 63.0), (1, 42.0), (2, 54.0))),
    row("none", 1, 99.0, test_set="validation"),
]


def test_gains_are_of_the_same_seeds_and_validation_is_left_out():
    none, targeted = summary(GRID, Outcome(rows=ROWS), {"accuracy": "accuracy"}, main="accuracy")
    assert none == {
        "test set": "test",
        "labelled": 10,
        "method": "none",
        "seeds": 3,
        "accuracy": "50.0 ± 10.0",
    }
    assert targeted["accuracy"] == "53.0 ± 10.5"
    assert targeted["gain"] == "+6 %"  # 3 of 50
    assert targeted["difference [95 %]"] == "+3.0 [+2.0, +4.0]"  # differences 2, 4, 3


def test_a_method_with_other_seeds_is_compared_over_the_shared_ones():
    rows = [r for r in ROWS if not (r["method"] == "targeted" and r["seed"] == 3)]
    targeted = summary(GRID, Outcome(rows=rows), {"accuracy": "accuracy"}, main="accuracy")[1]
    assert (targeted["seeds"], targeted["gain"]) == (2, "+7 %")  # 3 of 45
    assert targeted["difference [95 %]"] == "+3.0"  # of two seeds an interval says nothing
    alone = [r for r in ROWS if r["method"] == "targeted"]
    assert "gain" not in summary(GRID, Outcome(rows=alone), {"accuracy": "accuracy"}, main="accuracy")[0]


def test_the_report_holds_the_methods_the_curves_and_what_made_it(tmp_path):
    grid = Grid(out=tmp_path, items=(10,), methods=("none", "targeted"), seeds=(1, 2, 3))
    tuning = [{"method": "none", "learning rate": "0.001", "validation": "50.00"}]
    write_report(
        grid,
        Outcome(tuning, ROWS),
        {"accuracy": "accuracy"},
        main="accuracy",
        title="A <title>",
        command="python x.py",
    )
    report, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    assert "`python x.py`" in report
    assert report.startswith(
        "# A <title>\n\n10 labels, test: targeted is the best with 53.0 % accuracy; over none +3.0"
    )
    assert "| targeted | selected, with more weight where the teacher knows" in report
    assert "name=viewport" in page
    assert "| none | 0.001 | 50.00 |" in report
    assert "A &lt;title&gt;" in page
    assert "<td>+3.0 [+2.0, +4.0]</td>" in page
    assert page.count("data:image/png;base64,") == 1
    assert (tmp_path / "curve_test.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_that_diverged_is_said_and_the_others_go_on(tmp_path, monkeypatch):
    def diverges(settings, task_class):
        raise FloatingPointError("the loss is nan at step 3")

    monkeypatch.setattr(low_shot, "finetune", diverges)
    cell = SimpleNamespace(run_dir=tmp_path / "cells" / "naive_seed1", test_sets=("test",))
    cell.run_dir.mkdir(parents=True)
    for _ in range(2):
        assert cell_or_divergence(cell, object) == "naive_seed1: the loss is nan at step 3"
        monkeypatch.setattr(low_shot, "finetune", None)  # not run again
    grid = Grid(out=tmp_path, items=(10,), methods=("none", "targeted"), seeds=(1, 2, 3))
    outcome = Outcome(rows=ROWS, diverged=["naive_seed1: the loss is nan at step 3"])
    write_report(grid, outcome, {"accuracy": "accuracy"}, main="q_to_ar", title="A grid", command="x")
    assert "1 runs diverged and are in no mean: naive_seed1" in (tmp_path / "report.md").read_text()


def test_a_test_set_that_is_added_is_scored_in_finished_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(low_shot, "finetune", lambda settings, task_class: ["anew"])
    (tmp_path / "results.json").write_text(json.dumps({"rows": [row("none", 1, 40.0)]}))
    one = SimpleNamespace(run_dir=tmp_path, test_sets=("test",))
    assert run_cell(one, object) == [row("none", 1, 40.0)]
    assert run_cell(SimpleNamespace(run_dir=tmp_path, test_sets=("test", "shifted")), object) == ["anew"]


def test_what_differs_is_named_with_both_values(tmp_path):
    low_shot.keep_settings(tmp_path, {"training": {"batch_size": 8}})
    low_shot.keep_settings(tmp_path, {"training": {"batch_size": 8}})
    with pytest.raises(
        ValueError, match=r"other settings \(training\.batch_size is 8 there, 16 here\); use another"
    ):
        low_shot.keep_settings(tmp_path, {"training": {"batch_size": 16}})
