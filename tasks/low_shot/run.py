"""Run a grid of the low-shot protocol: methods × numbers of labels × seeds, all tuned alike.

Every method gets as many tuning trials as any other, scored on validation items at one number of labels. The rate with
the best validation score runs with every seed and number of labels, and only then are the test sets opened. Finished
runs are not run again, so a stopped grid goes on with the same command.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import mean
from typing import Any, TypeVar

from cliptd.targeted.config import Method
from cliptd.training.config import FREE_ON_RESUME
from cliptd.utils.files import write_atomically
from tasks.known_tasks import KnownTask
from tasks.low_shot.cells import build_shared_store, check_grid, is_finished, run_cell, validation_score
from tasks.low_shot.grid import Grid, Outcome, Run, cells, trials
from tasks.low_shot.kept_settings import keep_settings
from tasks.low_shot.processes import process_pool
from tasks.low_shot.progress import run_all
from tasks.low_shot.teacher_score import kept_teacher_scores, teacher_scores
from tasks.settings import FinetuneSettings

Result = TypeVar("Result")


def run_grid(grid: Grid, base: FinetuneSettings, known: KnownTask) -> Outcome:
    """Run what is not finished yet; everything is checked before the first run.

    Args:
        base: settings of the task. The grid sets its methods, labels, seed, learning rate, steps and run folder.
        known: the task.

    Raises:
        ValueError: the folder holds another grid's cells.
    """
    _keep_settings(grid, base)
    if grid.shared_store:
        base = dataclasses.replace(base, store=grid.out / "store")
    left = _unfinished_methods(grid, base, known)
    if not left:
        print(f"{grid.out} holds this grid, finished; nothing is trained again.", file=sys.stderr)
        outcome = _outcome(grid, base, known, None)
    else:
        with process_pool(grid.processes) as pool:
            print("Checking data, student and teacher before the first run.", file=sys.stderr, flush=True)
            pool.submit(check_grid, grid, dataclasses.replace(base, store=None), known, left).result()
            if grid.shared_store:
                pool.submit(build_shared_store, grid, base, known).result()
            outcome = _outcome(grid, base, known, pool)
    text = "".join(json.dumps(row) + "\n" for row in outcome.rows)
    write_atomically(grid.out / "results.jsonl", text)
    return outcome


def _outcome(
    grid: Grid, base: FinetuneSettings, known: KnownTask, pool: ProcessPoolExecutor | None
) -> Outcome:
    """Return the results; `pool` runs what is not finished and may be None if everything is."""
    outcome = Outcome(rates=dict.fromkeys(grid.methods, base.training.lr))
    if grid.lrs:
        runs = list(trials(grid, base))
        scores = _results(pool, grid, validation_score, runs, known, what="trial")
        outcome.tuning, outcome.rates = _tuned(grid, scores)
    runs = list(cells(grid, base, outcome.rates))
    for found in _results(pool, grid, run_cell, runs, known, what="cell"):
        if isinstance(found, str):
            outcome.diverged.append(found)
        else:
            outcome.rows += found
    if known.teacher_score is not None:
        kept = kept_teacher_scores(grid.out, base)
        if kept is None and pool is not None:
            print("Scoring the teacher itself.", file=sys.stderr, flush=True)
            kept = pool.submit(teacher_scores, grid.out, base, known).result()
        outcome.teacher = kept or []
    return outcome


def _results(
    pool: ProcessPoolExecutor | None,
    grid: Grid,
    work: Callable[..., Result],
    runs: Sequence[Run],
    known: KnownTask,
    *,
    what: str,
) -> list[Result]:
    arguments = [(run.settings, known, run.name) for run in runs]
    return run_all(
        pool,
        work,
        arguments,
        names=[run.name for run in runs],
        finished=[is_finished(run.settings) for run in runs],
        what=what,
        at_a_time=grid.processes,
    )


def _unfinished_methods(grid: Grid, base: FinetuneSettings, known: KnownTask) -> list[Method]:
    """Return the methods of which a run is left; all of those that are tuned, if a trial is left."""
    rates = dict.fromkeys(grid.methods, base.training.lr)
    if grid.lrs:
        runs = list(trials(grid, base))
        if not all(is_finished(run.settings) for run in runs):
            return list(grid.methods)
        rates = _tuned(grid, [validation_score(run.settings, known, run.name) for run in runs])[1]
    left = [run.settings.methods[0] for run in cells(grid, base, rates) if not is_finished(run.settings)]
    return list(dict.fromkeys(left))


def _tuned(grid: Grid, scores: Sequence[float]) -> tuple[list[dict[str, Any]], dict[Method, float]]:
    """Return the table of the trials and the best rate of each method; `scores` are in the order of `trials`.

    The last of several equally good rates is taken.
    """
    tried = [(method, lr) for method in grid.methods for lr in grid.lrs]
    repeats = len(grid.tuning_seeds)
    means = [mean(scores[k : k + repeats]) for k in range(0, len(scores), repeats)]
    table = [
        {
            "method": method,
            "learning rate": f"{lr:g}",
            "validation": f"{score:.2f}" if math.isfinite(score) else "diverged",
        }
        for (method, lr), score in zip(tried, means, strict=True)
    ]
    ranked = sorted(zip(tried, means, strict=True), key=lambda pair: pair[1])
    return table, {method: lr for (method, lr), _ in ranked}


def _keep_settings(grid: Grid, base: FinetuneSettings) -> None:
    """Write what all cells share once, and refuse others; methods, labels, seeds and test sets may be added later."""
    free = ("methods", "test_sets", "run_dir", "eval_batch_size")
    free_in_training = {"lr", "steps", "seed", *FREE_ON_RESUME}
    plain = {k: v for k, v in dataclasses.asdict(base).items() if k not in free}
    plain["training"] = {k: v for k, v in plain["training"].items() if k not in free_in_training}
    plain["data"] = {k: v for k, v in plain["data"].items() if k not in ("items", "fraction")}
    keep_settings(grid.out, plain)
