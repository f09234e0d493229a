"""Settings of grids: what is refused, and the runs that follow from them."""

from pathlib import Path

import pytest

from tasks.known_tasks import TASKS
from tasks.low_shot.grid import Grid, cells, trials


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
        ({"fractions": (0.1,), "methods": ("naive", "targeted")}, "methods are naive targeted; add none"),
        ({"fractions": (0.1, 1.5)}, "fractions holds 1.5, expected shares above 0 and at most 1"),
        ({"fractions": (0.0,)}, "fractions holds 0.0, expected shares above 0"),
        ({"items": (5,), "processes": 0}, "processes is 0, expected at least 1"),
        ({"items": (5,), "steps_at": (0,)}, "steps_at holds 0, expected at least 1 step"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Grid(out=Path("grid"), **settings)


def test_cells_go_through_labels_seeds_and_methods_and_some_methods_have_fewer_seeds():
    grid = Grid(
        out=Path("grid"), items=(50, 100), steps_at=(3, 6), seeds=(4, 5), methods=("none", "naive"),
        first_seeds={"naive": 1},
    )  # fmt: skip
    runs = list(cells(grid, TASKS["vcr"].settings(), {"none": 0.1, "naive": 0.2}))
    assert [run.name for run in runs] == [
        "none, 50 labels, seed 4",
        "naive, 50 labels, seed 4",
        "none, 50 labels, seed 5",
        "none, 100 labels, seed 4",
        "naive, 100 labels, seed 4",
        "none, 100 labels, seed 5",
    ]
    last = runs[4].settings
    assert (last.data.items, last.data.fraction, last.training.steps, last.training.lr) == (100, None, 6, 0.2)
    assert (last.methods, last.training.seed, last.test_sets) == (
        ("naive",),
        4,
        ("val", "singular", "val_shifted"),
    )
    assert str(last.run_dir) == "grid/cells/naive_lr0.2_labels100_steps6_seed4"


def test_trials_open_no_test_set_and_shares_replace_the_benchmarks_number():
    grid = Grid(out=Path("grid"), fractions=(0.25, 1.0), tuned_at=1, lrs=(1e-3, 2e-3), tuning_seeds=(7,))
    runs = list(trials(grid, TASKS["vcr"].settings()))
    assert [run.name for run in runs][:2] == [
        "none, 100 % of the labels, seed 7, learning rate 0.001",
        "none, 100 % of the labels, seed 7, learning rate 0.002",
    ]
    assert len(runs) == 3 * 2
    assert all(run.settings.test_sets == () for run in runs)
    assert {(run.settings.data.fraction, run.settings.data.items) for run in runs} == {(1.0, None)}
