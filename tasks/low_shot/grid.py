"""A grid of the low-shot protocol: its settings, the settings of each run, and what the runs come to.

A cell is one run: a method with a number of labels and a seed. A trial is a run that tunes the learning rate.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cliptd.targeted.config import Method
from tasks.settings import FinetuneSettings


@dataclass(kw_only=True)
class Grid:
    """What is compared, at how many labels, with which seeds."""

    out: Path
    """Folder of the cells and of the report."""
    methods: tuple[Method, ...] = ("none", "naive", "targeted")
    """Methods to compare. "none" must be among them: the gains of the others are relative to it."""
    fractions: tuple[float, ...] = ()
    """Shares of the training items that are labelled."""
    items: tuple[int, ...] = ()
    """Numbers of labelled training items, instead of shares."""
    steps_at: tuple[int, ...] = ()
    """Training steps at each number of labels, the same for every method. Empty: the task's --steps."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each seed draws labelled items, fresh weights and an order of examples, the same for every method."""
    first_seeds: dict[Method, int] = field(default_factory=dict)
    """Number of seeds, the first ones, of methods that do not run with all of them."""
    lrs: tuple[float, ...] = ()
    """Learning rates to try for every method on validation items. Empty: nothing is tuned, all have the task's --lr."""
    tuned_at: int = 0
    """Position, counted from 0, of the number of labels at which the learning rate is tuned."""
    tuning_seeds: tuple[int, ...] = (1000, 1001)
    """Seeds of the tuning trials, none of --seeds. A rate's score is the mean over them, because one lucky trial may
    choose a rate at which other seeds collapse."""
    shared_store: bool = False
    """Let the teacher look at the whole training set once, for all cells, instead of at each cell's labelled items."""
    processes: int = 1
    """Cells that train at the same time. Without a GPU each has its share of the cores, or OMP_NUM_THREADS threads.
    With several GPUs each has its own."""

    def __post_init__(self) -> None:
        if bool(self.fractions) == bool(self.items):
            raise ValueError(
                "give fractions or items, and not both: shares of the training items that are labelled, such as 0.01 "
                "0.1, or numbers of them, such as 100 500"
            )
        for share in self.fractions:
            if not 0 < share <= 1:
                raise ValueError(
                    f"fractions holds {share}, expected shares above 0 and at most 1, such as 0.01"
                )
        if self.steps_at and len(self.steps_at) != len(self.labels):
            raise ValueError(
                f"steps_at holds {len(self.steps_at)} numbers for {len(self.labels)} numbers of labels; give one each"
            )
        for steps in self.steps_at:
            if steps < 1:
                raise ValueError(f"steps_at holds {steps}, expected at least 1 step")
        if self.processes < 1:
            raise ValueError(f"processes is {self.processes}, expected at least 1")
        for method, count in self.first_seeds.items():
            if count < 1:
                raise ValueError(f"first_seeds gives {method} {count} seeds, expected at least 1")
        if not 0 <= self.tuned_at < len(self.labels):
            raise ValueError(f"tuned_at is {self.tuned_at}, expected 0 to {len(self.labels) - 1}")
        shared = set(self.seeds) & set(self.tuning_seeds)
        if shared:
            raise ValueError(f"tuning_seeds and seeds share {sorted(shared)}; tune with seeds of their own")
        for name in ("methods", "seeds", "labels", "lrs", "tuning_seeds"):
            values = getattr(self, name)
            if len(set(values)) != len(values) or (not values and name != "lrs"):
                raise ValueError(f"{name} are {values}; expected at least one, each once")
        if "none" not in self.methods:
            raise ValueError(
                f"methods are {' '.join(self.methods)}; add none, fine-tuning without a teacher, which the gains are "
                "relative to"
            )

    @property
    def labels(self) -> tuple[float | int, ...]:
        """Return the shares or the numbers of labelled items."""
        return self.fractions or self.items


@dataclass
class Outcome:
    """The results of a grid.

    Attributes:
        rows: of the cells, as `finetune` returns them.
        tuning: a row a trial: method, learning rate, validation score.
        rates: the learning rate of each method's cells.
        diverged: a line for each cell whose loss was not finite.
        teacher: a row a test set, the teacher's own scores; empty if the task defines none.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    tuning: list[dict[str, Any]] = field(default_factory=list)
    rates: dict[Method, float] = field(default_factory=dict)
    diverged: list[str] = field(default_factory=list)
    teacher: list[dict[str, Any]] = field(default_factory=list)

    @property
    def test_sets(self) -> list[str]:
        """Return the test sets, without validation, which chose steps and learning rates."""
        return [name for name in dict.fromkeys(row["test_set"] for row in self.rows) if name != "validation"]


@dataclass(frozen=True)
class Run:
    """One run of a grid: its settings, and what people call it."""

    settings: FinetuneSettings
    name: str


def trials(grid: Grid, base: FinetuneSettings) -> Iterator[Run]:
    """Yield the tuning runs: method by method, rate by rate, seed by seed."""
    for method in grid.methods:
        for lr in grid.lrs:
            for seed in grid.tuning_seeds:
                yield _run(grid, base, method, lr, grid.tuned_at, seed, test=False)


def cells(grid: Grid, base: FinetuneSettings, rates: dict[Method, float]) -> Iterator[Run]:
    """Yield the runs that are tested, each method with its learning rate."""
    for number in range(len(grid.labels)):
        for position, seed in enumerate(grid.seeds):
            for method in grid.methods:
                if position < grid.first_seeds.get(method, math.inf):
                    yield _run(grid, base, method, rates[method], number, seed, test=True)


def with_labels(grid: Grid, base: FinetuneSettings, number: int) -> FinetuneSettings:
    """Return the settings with the grid's number of labels at a position, and the steps that go with it."""
    labels = grid.labels[number]
    if grid.fractions:
        data = dataclasses.replace(base.data, fraction=labels, items=None)
    else:
        data = dataclasses.replace(base.data, fraction=None, items=int(labels))
    steps = grid.steps_at[number] if grid.steps_at else base.training.steps
    return dataclasses.replace(base, data=data, training=dataclasses.replace(base.training, steps=steps))


def _run(
    grid: Grid, base: FinetuneSettings, method: Method, lr: float, number: int, seed: int, *, test: bool
) -> Run:
    settings = with_labels(grid, base, number)
    labels, steps = grid.labels[number], settings.training.steps
    folder = f"{method}_lr{lr:g}_labels{labels:g}_steps{steps}_seed{seed}"
    settings = dataclasses.replace(
        settings,
        methods=(method,),
        test_sets=base.test_sets if test else (),
        run_dir=grid.out / ("cells" if test else "trials") / folder,
        training=dataclasses.replace(settings.training, lr=lr, seed=seed),
    )
    amount = f"{100 * labels:g} % of the labels" if grid.fractions else f"{labels:,} labels"
    rate = "" if test else f", learning rate {lr:g}"
    return Run(settings, f"{method}, {amount}, seed {seed}{rate}")
