"""The studies' protocol on ways that train nothing: rates chosen, cells kept, other settings refused."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from cliptd.teachers import load_teacher
from tasks.iconworld import studies
from tasks.iconworld.models import TEACHER
from tasks.iconworld.studies import Study, Trained, run_cell, run_study
from tasks.iconworld.study_report import Way

WAYS = [Way("plain", "learns slowly", goal="plain"), Way("taught", "learns fast", goal="plain")]
CURVES = {"plain": [(10, 20.0), (20, 40.0), (30, 50.0)], "taught": [(10, 50.0), (20, 60.0), (30, 70.0)]}


def study(folder, **changes):
    return Study(**{"out": folder, "pictures": 10, "lrs": (1e-3, 2e-3), "seeds": (1,), **changes})


class Counted:
    """A student of so many parameters."""

    parameters = 7


def train(study, name, lr, seed, steps, run_dir):
    if lr > 1e-2:
        raise FloatingPointError("the loss is not finite")
    return Trained(Counted(), [(pairs, value - 1000 * lr) for pairs, value in CURVES[name]])


@pytest.fixture
def here(monkeypatch):
    """Cells in this process, and test scores that are not measured."""

    class Pool:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        map = staticmethod(map)

    monkeypatch.setattr(studies, "process_pool", lambda processes: Pool())
    monkeypatch.setattr(studies, "scores_of", lambda model, study: {"test": 60.0, "unseen": 30.0})


def test_rates_that_diverge_lose_and_pairs_are_counted_to_the_goal(here, tmp_path):
    run_study(
        study(tmp_path, lrs=(1e-3, 2e-3, 0.1)),
        WAYS,
        train,
        title="A study",
        teacher=load_teacher(str(TEACHER)),
    )
    report = (tmp_path / "report.md").read_text()
    assert "| taught | 7 | 60.0 | 30.0 | 10 | 3.0 |" in report
    assert "| plain | 7 | 60.0 | 30.0 | 30 | 1.0 |" in report
    assert "diverged" in report
    assert {path.name for path in (tmp_path / "cells").iterdir()} == {
        "plain_lr0.001_seed1",
        "taught_lr0.001_seed1",
    }
    assert (tmp_path / "curves.png").stat().st_size > 1000
    runs = list(map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines()))
    assert [(run["way"], run["lr"], "test" in run) for run in runs] == [
        *((way, lr, False) for way in ("plain", "taught") for lr in (1e-3, 2e-3, 0.1)),
        ("plain", 1e-3, True),
        ("taught", 1e-3, True),
    ]


def test_a_test_cell_that_diverges_is_an_error(here, tmp_path):
    with pytest.raises(FloatingPointError):
        run_cell(study(tmp_path), train, "plain", 0.1, 1, 30, True)
    assert json.loads(json.dumps(run_cell(study(tmp_path), train, "plain", 0.1, 1, 30, False)))["diverged"]


def test_cells_of_other_settings_are_refused_and_more_seeds_are_not(here, tmp_path):
    teacher = load_teacher(str(TEACHER))
    run_study(study(tmp_path), WAYS, train, title="A study", teacher=teacher)
    run_study(study(tmp_path, seeds=(1, 2)), WAYS, train, title="A study", teacher=teacher)
    assert len(list((tmp_path / "cells").iterdir())) == 4
    with pytest.raises(ValueError, match=r"holds cells of other settings \(pairs is \d+ there, \d+ here\)"):
        run_study(study(tmp_path, pairs=5), WAYS, train, title="A study", teacher=teacher)


def test_a_way_that_needs_more_may_be_added_later(here, tmp_path):
    @dataclass(kw_only=True)
    class More(Study):
        MAY_CHANGE: ClassVar[tuple[str, ...]] = (*Study.MAY_CHANGE, "other")
        other: str | None = None

    teacher, settings = (
        load_teacher(str(TEACHER)),
        {"out": tmp_path, "pictures": 10, "lrs": (1e-3,), "seeds": (1,)},
    )
    run_study(More(**settings), WAYS[:1], train, title="A study", teacher=teacher)
    run_study(More(**settings, other="teacher"), WAYS, train, title="A study", teacher=teacher)
    assert len(list((tmp_path / "cells").iterdir())) == 2


def test_some_of_the_ways(here, tmp_path):
    teacher = load_teacher(str(TEACHER))
    run_study(study(tmp_path, ways=("plain",)), WAYS, train, title="A study", teacher=teacher)
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["plain_lr0.001_seed1"]
    assert "taught" not in (tmp_path / "report.md").read_text()
    run_study(study(tmp_path), WAYS, train, title="A study", teacher=teacher)
    assert "| taught |" in (tmp_path / "report.md").read_text()
    with pytest.raises(ValueError, match=r"ways: there is no 'other', only plain, taught"):
        study(tmp_path, ways=("other", "plain")).chosen(WAYS)
    with pytest.raises(ValueError, match=r"ways: 'taught' is compared with 'plain'; name it, too"):
        study(tmp_path, ways=("taught",)).chosen(WAYS)
