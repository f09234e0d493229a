"""The order of a grid: checks, trials, cells, teacher; finished ones are read without a pool."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tasks.known_tasks import TASKS
from tasks.low_shot import run as low_shot
from tasks.low_shot.grid import Grid
from tasks.low_shot.run import run_grid

KNOWN = TASKS["snli_ve"]
SCORES = {("none", 1e-3): 50.0, ("none", 2e-3): 60.0, ("targeted", 1e-3): 70.0, ("targeted", 2e-3): 65.0}


@pytest.fixture
def done(monkeypatch):
    """What the grid's processes are asked, in order; runs are written at once, in this process."""
    asked = []

    @contextmanager
    def pool(processes):
        with ThreadPoolExecutor(1) as threads:
            asked.append("pool")
            yield threads

    def check(grid, base, known, methods):
        asked.append(("check", *methods))

    def cell(settings, known, name):
        if not low_shot.is_finished(settings):
            asked.append(settings.run_dir.name)
        method, lr = settings.methods[0], settings.training.lr
        rows = [
            {
                "method": method,
                "labelled": 1,
                "seed": settings.training.seed,
                "test_set": name,
                "accuracy": score,
            }
            for name, score in [
                ("validation", SCORES[method, lr]),
                *((name, 30.0) for name in settings.test_sets),
            ]
        ]
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        (settings.run_dir / "results.json").write_text(json.dumps({"rows": rows}))
        return rows

    monkeypatch.setattr(low_shot, "process_pool", pool)
    monkeypatch.setattr(low_shot, "check_grid", check)
    monkeypatch.setattr(low_shot, "run_cell", cell)
    monkeypatch.setattr(
        low_shot, "validation_score", lambda settings, known, name: cell(settings, known, name)[0]["accuracy"]
    )
    return asked


def grid(folder, **changes):
    settings = {"items": (40,), "seeds": (1,), "methods": ("none", "targeted"), "lrs": (1e-3, 2e-3)}
    return Grid(out=folder, tuning_seeds=(7,), **{**settings, **changes})


def test_everything_is_checked_first_and_the_best_rate_of_each_method_is_tested(done, tmp_path, capsys):
    outcome = run_grid(grid(tmp_path), KNOWN.settings(), KNOWN)
    assert done[:2] == ["pool", ("check", "none", "targeted")]
    assert len(done) == 2 + 4 + 2
    assert outcome.rates == {"none": 2e-3, "targeted": 1e-3}
    assert done[-2:] == ["none_lr0.002_labels40_steps600_seed1", "targeted_lr0.001_labels40_steps600_seed1"]
    assert outcome.tuning[1] == {"method": "none", "learning rate": "0.002", "validation": "60.00"}
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2 * 4
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Checking data, student and teacher before the first run."
    assert "cell 1/2: none, 40 labels, seed 1" in said


def test_a_finished_grid_says_so_and_starts_nothing(done, tmp_path, capsys):
    first = run_grid(grid(tmp_path), KNOWN.settings(), KNOWN)
    done.clear()
    capsys.readouterr()
    again = run_grid(grid(tmp_path), KNOWN.settings(), KNOWN)
    assert done == []
    assert capsys.readouterr().err == f"{tmp_path} holds this grid, finished; nothing is trained again.\n"
    assert (again.rows, again.rates, again.tuning) == (first.rows, first.rates, first.tuning)


def test_seeds_may_be_added_and_only_what_is_left_is_checked_and_run(done, tmp_path, capsys):
    run_grid(grid(tmp_path, lrs=(), seeds=(1,), methods=("none",)), settings(), KNOWN)
    done.clear()
    capsys.readouterr()
    run_grid(grid(tmp_path, lrs=(), seeds=(1,)), settings(), KNOWN)
    assert done == ["pool", ("check", "targeted"), "targeted_lr0.001_labels40_steps600_seed1"]
    assert "1 of 2 cells are finished already" in capsys.readouterr().err


def settings():
    return KNOWN.settings()


def test_other_settings_are_refused_before_anything_is_checked(done, tmp_path):
    run_grid(grid(tmp_path), settings(), KNOWN)
    done.clear()
    other = settings()
    other.max_text_tokens = 7
    with pytest.raises(ValueError, match=r"other settings \(max_text_tokens is 64 there, 7 here\)"):
        run_grid(grid(tmp_path), other, KNOWN)
    assert done == []


def test_an_error_of_the_checks_ends_the_grid_before_the_first_run(done, tmp_path, monkeypatch):
    def check(*arguments):
        raise ValueError("teacher 'ViT-L-15' is unknown")

    monkeypatch.setattr(low_shot, "check_grid", check)
    with pytest.raises(ValueError, match="ViT-L-15"):
        run_grid(grid(tmp_path), settings(), KNOWN)
    assert done == ["pool"]
