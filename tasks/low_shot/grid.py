"""The low-shot protocol: methods × numbers of labels × seeds, tuned alike, in one report.

Every method gets as many tuning trials as any other, scored on validation items at one number of labels; the trial with
the best validation score runs with every seed and number of labels, and only then are the test sets opened. Finished
cells are not run again, so a killed grid goes on where it stopped.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from cliptd.targeted.config import Method
from cliptd.teachers import load_teacher
from cliptd.training import make_accelerator
from cliptd.training.config import FREE_ON_RESUME
from cliptd.utils.files import write_atomically
from cliptd.utils.run_folder import refuse_other_settings, remember_settings, remembered_settings
from tasks.finetuning.finetune import finetune
from tasks.finetuning.teacher_source import build_store
from tasks.finetuning.training_material import TrainingMaterial
from tasks.low_shot.paired_bootstrap import paired_bootstrap
from tasks.low_shot.processes import process_pool
from tasks.low_shot.progress import run_all
from tasks.settings import FinetuneSettings
from tasks.task import Task


@dataclass(kw_only=True)
class Grid:
    """What is run and how. A cell is a method with a number of labels and a seed."""

    out: Path
    """Folder of the cells and of the report."""
    methods: tuple[Method, ...] = ("none", "naive", "targeted")
    """Methods to compare; "none" is what the others' gains are relative to."""
    fractions: tuple[float, ...] = ()
    """Shares of the training items that are labelled."""
    items: tuple[int, ...] = ()
    """Numbers of training items that are labelled, instead of shares."""
    steps_at: tuple[int, ...] = ()
    """Training steps at each number of labels, the same for every method. Empty: the task's --steps."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each draws its labelled items, fresh weights and order of examples, the same for every method."""
    first_seeds: dict[Method, int] = field(default_factory=dict)
    """Methods that, if they are run, run with at most so many of the seeds, the first ones."""
    lrs: tuple[float, ...] = ()
    """Learning rates tried for every method on validation items. Empty: the task's --lr for all, nothing is tuned."""
    tuned_at: int = 0
    """Which of the numbers of labels the tuning trials have, counted from 0."""
    tuning_seeds: tuple[int, ...] = (1000, 1001)
    """Of the tuning trials, none of the grid's; a rate's score is the mean over them, as a single lucky trial may
    choose a rate at which others collapse."""
    shared_store: bool = False
    """The teacher looks at the whole training set once, for all cells, instead of at each cell's labelled items."""
    processes: int = 1
    """Cells trained at the same time. Without a GPU each has its share of the cores, or OMP_NUM_THREADS threads; with
    several GPUs each has its own."""

    def __post_init__(self) -> None:
        if bool(self.fractions) == bool(self.items):
            raise ValueError("give fractions or items, and not both: how much is labelled")
        for share in self.fractions:
            if not 0 < share <= 1:
                raise ValueError(
                    f"fractions holds {share}, expected shares above 0 and at most 1, such as 0.01"
                )
        if self.steps_at and len(self.steps_at) != len(self.labels):
            raise ValueError(
                f"steps_at holds {len(self.steps_at)} numbers for {len(self.labels)} numbers of labels; give one each"
            )
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

    @property
    def labels(self) -> tuple[float | int, ...]:
        """Shares or numbers of labelled items."""
        return self.fractions or self.items


@dataclass
class Outcome:
    """What a grid came to: the tuning trials' and the cells' rows, and what is wrong with cells that diverged."""

    tuning: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)

    @property
    def test_sets(self) -> list[str]:
        """Without validation, by which steps and learning rates were chosen."""
        return [name for name in dict.fromkeys(row["test_set"] for row in self.rows) if name != "validation"]


def run_grid(grid: Grid, base: FinetuneSettings, task_class: type[Task]) -> Outcome:
    """Run what is not finished yet.

    base: settings of the task; the grid sets its methods, labels, seed, learning rate, steps and run folder.
    task_class: of the task, such as `VcrTask`.

    Raises ValueError if the folder holds another grid's cells.
    """
    _refuse_other_settings(grid, base)
    if grid.shared_store:
        base = dataclasses.replace(base, store=_shared_store(grid, base, task_class))
    with process_pool(grid.processes) as pool:
        outcome = Outcome()
        chosen = dict.fromkeys(grid.methods, base.training.lr)
        if grid.lrs:
            tried = [(method, lr) for method in grid.methods for lr in grid.lrs]
            trials = [
                (cell_settings(grid, base, method, lr, grid.tuned_at, seed, test=False), task_class)
                for method, lr in tried
                for seed in grid.tuning_seeds
            ]
            scores = run_all(pool, validation_score, trials, **_described(trials), what="trial")
            repeats = len(grid.tuning_seeds)
            scores = [mean(scores[k : k + repeats]) for k in range(0, len(scores), repeats)]
            for (method, lr), score in zip(tried, scores, strict=True):
                shown = f"{score:.2f}" if math.isfinite(score) else "diverged"
                outcome.tuning.append({"method": method, "learning rate": f"{lr:g}", "validation": shown})
            ranked = sorted(zip(tried, scores, strict=True), key=lambda pair: pair[1])
            chosen = {method: lr for (method, lr), _ in ranked}
        cells = [
            (cell_settings(grid, base, method, chosen[method], number, seed, test=True), task_class)
            for number in range(len(grid.labels))
            for position, seed in enumerate(grid.seeds)
            for method in grid.methods
            if position < grid.first_seeds.get(method, math.inf)
        ]
        for found in run_all(pool, cell_or_divergence, cells, **_described(cells), what="cell"):
            if isinstance(found, str):
                outcome.diverged.append(found)
            else:
                outcome.rows += found
    text = "".join(json.dumps(row) + "\n" for row in outcome.rows)
    write_atomically(grid.out / "results.jsonl", text)
    return outcome


def cell_settings(
    grid: Grid, base: FinetuneSettings, method: Method, lr: float, number: int, seed: int, *, test: bool
) -> FinetuneSettings:
    """The settings of one run; number: which of the grid's numbers of labels; test: score the test sets."""
    labels = grid.labels[number]
    steps = grid.steps_at[number] if grid.steps_at else base.training.steps
    amount = {"fraction": labels, "items": None} if grid.fractions else {"items": labels, "fraction": None}
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, **amount),
        methods=(method,),
        test_sets=base.test_sets if test else (),
        run_dir=grid.out
        / ("cells" if test else "trials")
        / f"{method}_lr{lr:g}_labels{labels:g}_steps{steps}_seed{seed}",
        training=dataclasses.replace(base.training, lr=lr, steps=steps, seed=seed),
    )


def _described(runs: Sequence[tuple[FinetuneSettings, type[Task]]]) -> dict[str, Any]:
    """Return the runs' names, and which are finished."""
    folders = [settings.run_dir for settings, _ in runs]
    return {
        "names": [folder.name for folder in folders],
        "finished": [is_finished(settings) for settings, _ in runs],
    }


def is_finished(settings: FinetuneSettings) -> bool:
    """Return whether a run is scored on every test set, or known to diverge."""
    path = settings.run_dir / "results.json"
    if not path.exists():
        return (settings.run_dir / "diverged.txt").exists()
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return set(settings.test_sets) <= {row["test_set"] for row in rows}


def run_cell(settings: FinetuneSettings, task_class: type[Task]) -> list[dict[str, Any]]:
    """The rows of one run, from its folder if it is finished and has every test set; else it is scored anew."""
    finished = settings.run_dir / "results.json"
    if finished.exists() and is_finished(settings):
        return json.loads(finished.read_text(encoding="utf-8"))["rows"]
    return finetune(settings, task_class)


def cell_or_divergence(settings: FinetuneSettings, task_class: type[Task]) -> list[dict[str, Any]] | str:
    """The rows of one run, or what is wrong with one whose loss was not finite: the others go on without it."""
    note = settings.run_dir / "diverged.txt"
    if note.exists():
        return note.read_text(encoding="utf-8")
    try:
        return run_cell(settings, task_class)
    except FloatingPointError as error:
        text = f"{settings.run_dir.name}: {' '.join(str(error).split())}"
        write_atomically(note, text)
        return text


def validation_score(settings: FinetuneSettings, task_class: type[Task]) -> float:
    """Of one tuning trial; minus infinity if it diverged, which a learning rate tried may do."""
    try:
        rows = run_cell(settings, task_class)
    except FloatingPointError:
        return -math.inf
    return next(row[settings.training.metric] for row in rows if row["test_set"] == "validation")


def summary(grid: Grid, outcome: Outcome, metrics: dict[str, str], *, main: str) -> list[dict[str, Any]]:
    """One line a test set, number of labels and method: mean ± standard deviation over seeds.

    Of the main metric also the gain over "none" of the same seeds, relative to none's mean in percent, and the
    difference with its 95 % paired bootstrap interval over seeds, if these are three or more.

    metrics: keys of the rows and their names. main: the key that gains are computed of.
    """
    lines = []
    counts = list(dict.fromkeys(row["labelled"] for row in outcome.rows))
    for test_set in outcome.test_sets:
        for count in counts:
            of = {
                method: {
                    row["seed"]: row
                    for row in outcome.rows
                    if (row["test_set"], row["labelled"], row["method"]) == (test_set, count, method)
                }
                for method in grid.methods
            }
            for method in grid.methods:
                rows = list(of[method].values())
                if not rows:
                    continue
                line = {"test set": test_set, "labelled": count, "method": method, "seeds": len(rows)}
                for key, name in metrics.items():
                    line[name] = mean_and_spread([row[key] for row in rows if key in row])
                shared = [seed for seed in of[method] if seed in of.get("none", {})]
                if shared and method != "none":
                    ours, none = ([of[m][seed][main] for seed in shared] for m in (method, "none"))
                    found = paired_bootstrap(ours, none)
                    line["gain"] = f"{100 * found.mean / mean(none):+.0f} %" if mean(none) else None
                    interval = f" [{found.low:+.1f}, {found.high:+.1f}]" if len(shared) > 2 else ""
                    line["difference [95 %]"] = f"{found.mean:+.1f}{interval}"
                lines.append(line)
    return lines


def mean_and_spread(values: Sequence[float]) -> str | None:
    """Mean ± standard deviation with one digit; of one value there is no deviation.

    >>> mean_and_spread([1.0, 2.0, 3.0])
    '2.0 ± 1.0'
    """
    if not values:
        return None
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


def _refuse_other_settings(grid: Grid, base: FinetuneSettings) -> None:
    """What all cells share is written once; methods, labels and seeds may be added later."""
    free = ("methods", "test_sets", "run_dir", "eval_batch_size")
    free_in_training = {"lr", "steps", "seed", *FREE_ON_RESUME}
    plain = {k: v for k, v in dataclasses.asdict(base).items() if k not in free}
    plain["training"] = {k: v for k, v in plain["training"].items() if k not in free_in_training}
    plain["data"] = {k: v for k, v in plain["data"].items() if k not in ("items", "fraction")}
    keep_settings(grid.out, plain)


def keep_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write what all cells of a folder share, once. Raises ValueError naming what differs from what is there."""
    path, remedy = out / "settings.json", "use another --out"
    there = remembered_settings(path, remedy)
    if there is None:
        remember_settings(path, settings)
    else:
        refuse_other_settings(out, there, settings, holds="cells of other settings", remedy=remedy)


def _shared_store(grid: Grid, base: FinetuneSettings, task_class: type[Task]) -> Path:
    """The teacher looks at every training item once, for all cells."""
    path, marker = grid.out / "store", grid.out / "store" / "complete"
    wanted = " ".join(grid.methods)
    if marker.exists() and marker.read_text() == wanted:
        return path
    data = dataclasses.replace(base.data, items=None, fraction=None)
    whole = dataclasses.replace(base, data=data, test_sets=(), run_dir=grid.out / "store_run")
    accelerator = make_accelerator(whole.training, whole.run_dir)
    task = task_class(whole, accelerator)
    teacher = load_teacher(base.teacher, base.pretrained, device=accelerator.device)
    for method in grid.methods:
        config = base.method_config(method)
        if config.distils and method != "adapted_teacher":  # whose teacher is each cell's own
            build_store(path, teacher, config, TrainingMaterial(whole, task).questions)
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(marker, wanted)
    return path
