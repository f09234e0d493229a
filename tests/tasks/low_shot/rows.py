"""Result rows of a small grid, as `finetune` returns them."""

from pathlib import Path

from tasks.low_shot.grid import Grid


def row(method, seed, score, test_set="test", labelled=10):
    return {"method": method, "seed": seed, "test_set": test_set, "labelled": labelled, "accuracy": score}


GRID = Grid(out=Path("grid"), items=(10,), methods=("none", "targeted"), seeds=(1, 2, 3))
ROWS = [
    *(row("none", seed, score) for seed, score in ((1, 40.0), (2, 50.0), (3, 60.0))),
    *(row("targeted", seed, score) for seed, score in ((3, 63.0), (1, 42.0), (2, 54.0))),
    row("none", 1, 99.0, test_set="validation"),
]
