"""The protocol of the studies of dual encoders: several ways to train a student on equally many pairs.

Every way is tuned alike: each learning rate is tried with one seed, and the best zero-shot accuracy on validation
images chooses. With the chosen rate the paired seeds run, whose test images are opened once. Finished cells are not run
again.
"""

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tyro

from cliptd.evaluation.linear_probe import ProbeFolders
from cliptd.evaluation.suite import evaluate_suite
from cliptd.evaluation.suite_file import SuiteEntry
from cliptd.evaluation.zero_shot import zero_shot
from cliptd.training import TrainingConfig
from cliptd.utils.files import write_atomically
from cliptd.utils.tables import markdown_table, print_table
from tasks.iconworld.files.classes import TEMPLATES, IconClasses
from tasks.iconworld.glyphs import SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.study_report import Way, curves_image, line_of
from tasks.low_shot.kept_settings import keep_settings
from tasks.low_shot.processes import process_pool

VALIDATION, TEST, PROBE = 2, 3, 4
"""Seeds of the images that are scored. Training pairs and shipped weights have others."""


@dataclass(kw_only=True)
class Study:
    """Settings of a study."""

    MAY_CHANGE: ClassVar[tuple[str, ...]] = ("out", "ways", "lrs", "seeds", "processes")
    """Settings that may differ when a study goes on, because they change no finished cell."""
    out: Path
    """Folder of the cells and of the report."""
    ways: tuple[str, ...] = ()
    """Names of the ways to run, as in the table. Empty: all."""
    pairs: int = 20_000
    """Training pairs."""
    pictures: int = 1000
    """Images of each of validation, test and unseen families. A linear probe is fitted to three times as many."""
    linear_probe: bool = False
    """Fit and test linear probes, too."""
    tuning_steps: int = 600
    """Steps of a tuning trial."""
    lrs: tuple[float, ...] = (2.5e-4, 5e-4, 1e-3, 2e-3)
    """Learning rates to try for every way."""
    tuning_seed: int = 1000
    """Seed of the tuning trials."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of fresh weights and the order of the pairs, the same for every way."""
    processes: int = 1
    """Cells that train at the same time."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=2000, batch_size=64, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=30,
            eval_every=100, save_every=0, metric="top1",
        )
    )  # fmt: skip

    def chosen(self, ways: Sequence[Way]) -> list[Way]:
        """Return the ways that are asked for.

        Raises:
            ValueError: no way has a name that is asked for, or the way that one is compared with is not asked for.
        """
        if not self.ways:
            return list(ways)
        chosen = [way for way in ways if way.name in self.ways]
        names = [way.name for way in chosen]
        if unknown := sorted({*self.ways} - {*names}):
            raise ValueError(f"ways: there is no {unknown[0]!r}, only {', '.join(way.name for way in ways)}")
        if lone := [way for way in chosen if way.goal not in names]:
            raise ValueError(f"ways: {lone[0].name!r} is compared with {lone[0].goal!r}; name it, too")
        return chosen


class Trained(NamedTuple):
    """A trained student, and its learning curve as (pairs seen, validation accuracy)."""

    student: Any
    curve: list[tuple[int, float]]


Train = Callable[[Study, str, float, int, int, Path], Trained]
"""A function that trains a student: (study, name of the way, learning rate, seed, steps, folder of the run). Other
processes must be able to import it."""


def run_study(study: Study, ways: Sequence[Way], train: Train, *, title: str, teacher: Any) -> None:
    """Tune, train and test every way asked for, and write report.md, curves.png and results.jsonl, a line a run.

    Args:
        teacher: the model that the table's first line is of.
    """
    _refuse_other_settings(study)
    ways = study.chosen(ways)
    names = [way.name for way in ways]
    with process_pool(study.processes) as pool:
        trials = [(name, lr) for name in names for lr in study.lrs]
        scores, tried = dict.fromkeys(trials, math.nan), []
        if len(study.lrs) > 1:  # else there is nothing to choose
            asked = [(study, train, *trial, study.tuning_seed, study.tuning_steps, False) for trial in trials]
            tried = _run_all(pool, asked)
            best = (max((top1 for _, top1 in result["curve"]), default=-math.inf) for result in tried)
            scores = dict(zip(trials, best, strict=True))
        rates = {name: max(study.lrs, key=lambda lr: scores[name, lr]) for name in names}
        cells = [(name, seed) for seed in study.seeds for name in names]
        asked = [(study, train, name, rates[name], seed, study.training.steps, True) for name, seed in cells]
        results = _run_all(pool, asked)
    text = "".join(json.dumps(result) + "\n" for result in (*tried, *results))
    write_atomically(study.out / "results.jsonl", text)
    of = {name: [r for (other, _), r in zip(cells, results, strict=True) if other == name] for name in names}
    table = [_teacher_line(teacher, study), *(line_of(way, of) for way in ways)]
    write_atomically(study.out / "curves.png", curves_image(ways, of))
    parts = [f"# {title}", markdown_table([{"way": way.name, "what": way.what} for way in ways])]
    parts += [markdown_table(table), "![validation accuracy over pairs seen](curves.png)"]
    if tried:
        tuning = [
            {"way": name, **{f"{lr:g}": _shown(scores[name, lr]) for lr in study.lrs}} for name in names
        ]
        parts += ["Validation accuracy by learning rate:", markdown_table(tuning)]
        print_table(tuning, title="tuning: validation top-1 by learning rate")
    write_atomically(study.out / "report.md", "\n\n".join(parts) + "\n")
    print_table(table, title="zero-shot top-1, in percent")
    print(f"Report: {(study.out / 'report.md').resolve()}")


def _run_all(pool: Executor, asked: Sequence[tuple]) -> list[dict[str, Any]]:
    """Return the results of `run_cell` for each of the arguments, with way, rate, seed and steps."""
    found = pool.map(run_cell, *zip(*asked, strict=True))
    names = ("way", "lr", "seed", "steps")
    return [dict(zip(names, each[2:6], strict=True)) | one for each, one in zip(asked, found, strict=True)]


def _shown(score: float) -> str:
    return "diverged" if score == -math.inf else f"{score:.1f}"


def run_cell(
    study: Study, train: Train, name: str, lr: float, seed: int, steps: int, test: bool
) -> dict[str, Any]:
    """Return {"curve", "parameters"} and, for a test, the scores; they come out of its folder if it is finished."""
    folder = "cells" if test else "trials"
    run_dir = study.out / folder / f"{name.replace(' ', '_')}_lr{lr:g}_seed{seed}"
    done = run_dir / "results.json"
    if done.exists():
        return json.loads(done.read_text())
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        student, curve = train(study, name, lr, seed, steps, run_dir)
        result: dict[str, Any] = {"curve": curve, "parameters": student.parameters}
    except FloatingPointError as error:  # a rate that is too high is one not to choose
        if test:
            raise
        result = {"curve": [], "diverged": str(error)}
    if test:
        result |= scores_of(student, study)
    write_atomically(done, json.dumps(result) + "\n")
    return result


def _refuse_other_settings(study: Study) -> None:
    """Write what all cells share once, and refuse other settings later."""
    shared = {k: v for k, v in asdict(study).items() if k not in study.MAY_CHANGE}
    shared["training"] = {k: v for k, v in shared["training"].items() if k not in ("lr", "seed")}
    keep_settings(study.out, shared)


def validation(study: Study) -> Callable[[Any], dict[str, float]]:
    """Return the evaluation that chooses the best step of a run."""
    images = IconClasses(SEEN_FAMILIES, images=study.pictures, seed=VALIDATION)
    return lambda model: {"top1": zero_shot(model, images, TEMPLATES)["top1"]}


def curve_of(run_dir: Path, batch_size: int, before: int = 0) -> list[tuple[int, float]]:
    """Return (pairs seen, validation accuracy) from a run's log; `before` is the number of pairs of earlier stages."""
    history = map(json.loads, (run_dir / "log.jsonl").read_text().splitlines())
    return [
        (before + entry["step"] * batch_size, entry["metrics"]["top1"])
        for entry in history
        if "metrics" in entry
    ]


def scores_of(model: Any, study: Study) -> dict[str, float]:
    """Return zero-shot and linear-probe accuracy on test images, none of which was seen in training or tuning."""
    count, probe = study.pictures, None
    test = IconClasses(SEEN_FAMILIES, images=count, seed=TEST)
    unseen = IconClasses(UNSEEN_FAMILIES, images=count, seed=TEST)
    if study.linear_probe:
        probe = ProbeFolders(IconClasses(SEEN_FAMILIES, images=3 * count, seed=PROBE), None, test)
    rows = evaluate_suite(
        model,
        [
            SuiteEntry("test", test, linear_probe=probe, templates=TEMPLATES),
            SuiteEntry("unseen", unseen, shifted_from="test", templates=TEMPLATES),
        ],
    )
    found = {row["name"]: row["zero_shot"] for row in rows}
    if study.linear_probe:
        found |= {f"probe, {row['name']}": row["linear_probe"] for row in rows}
    return found


def _teacher_line(teacher: Any, study: Study) -> dict[str, Any]:
    size = sum(parameter.numel() for parameter in teacher.model.parameters())
    scores = {name: f"{score:.1f}" for name, score in scores_of(teacher, study).items()}
    return {"way": "teacher", "parameters": size, **scores}
