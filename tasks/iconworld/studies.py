"""What the studies of dual encoders share: tuning, cells, one table and one picture.

Several ways to train a student on as many pairs. Every way is tuned alike: each learning rate with one seed, the best
by zero-shot accuracy on validation pictures; with the rate that won, paired seeds, whose test pictures are opened once.
Finished cells are not run again.
"""

import io
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
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
from tasks.low_shot.kept_settings import keep_settings
from tasks.low_shot.processes import process_pool
from tasks.low_shot.summary import mean_and_spread

VALIDATION, TEST, PROBE = 2, 3, 4
"""Seeds of pictures; training pairs and shipped weights have others."""


@dataclass(kw_only=True)
class Study:
    """Settings of a study."""

    MAY_CHANGE: ClassVar[tuple[str, ...]] = ("out", "ways", "lrs", "seeds", "processes")
    """Settings that make no finished cell another one."""
    out: Path
    """Folder of the cells and of the report."""
    ways: tuple[str, ...] = ()
    """Only these, by the names in the table. Empty: all."""
    pairs: int = 20_000
    """Training pairs."""
    pictures: int = 1000
    """Of each of validation, test and unseen families; three times as many to fit a linear probe."""
    linear_probe: bool = False
    """Fit and test linear probes, too."""
    tuning_steps: int = 600
    """Of a tuning trial."""
    lrs: tuple[float, ...] = (2.5e-4, 5e-4, 1e-3, 2e-3)
    """Learning rates tried for every way."""
    tuning_seed: int = 1000
    """Of the tuning trials."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of fresh weights and the order of the pairs, the same for every way."""
    processes: int = 1
    """Cells trained at the same time."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=2000, batch_size=64, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=30,
            eval_every=100, save_every=0, metric="top1",
        )
    )  # fmt: skip

    def chosen(self, ways: Sequence["Way"]) -> list["Way"]:
        """Those of `ways` that are asked for. ValueError: none has that name, or one's goal is left out."""
        if not self.ways:
            return list(ways)
        chosen = [way for way in ways if way.name in self.ways]
        names = [way.name for way in chosen]
        if unknown := sorted({*self.ways} - {*names}):
            raise ValueError(f"ways: there is no {unknown[0]!r}, only {', '.join(way.name for way in ways)}")
        if left_out := [way for way in chosen if way.goal not in names]:
            raise ValueError(
                f"ways: {left_out[0].name!r} is compared with {left_out[0].goal!r}; name it, too"
            )
        return chosen


@dataclass(frozen=True)
class Way:
    """A row of the table.

    what: it does, for the reader. panel: of the picture it is drawn in. goal: the name of the way whose best validation
    accuracy it is timed to.
    """

    name: str
    what: str
    goal: str
    panel: str = ""


class Trained(NamedTuple):
    """A trained student and (pairs seen, validation accuracy) as it went."""

    student: Any
    curve: list[tuple[int, float]]


Train = Callable[[Study, str, float, int, int, Path], Trained]
"""(study, name of the way, learning rate, seed, steps, folder of the run) → the student. Importable, for processes."""


def run_study(study: Study, ways: Sequence[Way], train: Train, *, title: str, teacher: Any) -> None:
    """Tune, train and test every way asked for, and write report.md, curves.png and, a line a run, results.jsonl.

    teacher: the table's first line.
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
    table = [_teacher_line(teacher, study), *(_line(way, of) for way in ways)]
    (study.out / "curves.png").write_bytes(_curves(ways, of))
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


def _run_all(pool: Executor, asked: Sequence[tuple]) -> list[dict[str, Any]]:
    """What `run_cell` returns for each of the arguments, and of which way, rate, seed and steps it is."""
    found = pool.map(run_cell, *zip(*asked, strict=True))
    names = ("way", "lr", "seed", "steps")
    return [dict(zip(names, each[2:6], strict=True)) | one for each, one in zip(asked, found, strict=True)]


def _shown(score: float) -> str:
    return "diverged" if score == -math.inf else f"{score:.1f}"


def run_cell(
    study: Study, train: Train, name: str, lr: float, seed: int, steps: int, test: bool
) -> dict[str, Any]:
    """{"curve", "parameters"} and, if asked, what `scores_of` finds; out of its folder if it is finished."""
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
    """What all cells share is written once."""
    shared = {k: v for k, v in asdict(study).items() if k not in study.MAY_CHANGE}
    shared["training"] = {k: v for k, v in shared["training"].items() if k not in ("lr", "seed")}
    keep_settings(study.out, shared)


def validation(study: Study) -> Callable[[Any], dict[str, float]]:
    """What a run chooses its best step by."""
    pictures = IconClasses(SEEN_FAMILIES, images=study.pictures, seed=VALIDATION)
    return lambda model: {"top1": zero_shot(model, pictures, TEMPLATES)["top1"]}


def curve_of(run_dir: Path, batch_size: int, before: int = 0) -> list[tuple[int, float]]:
    """(pairs seen, validation accuracy) out of a run's log; before: pairs of earlier stages."""
    history = map(json.loads, (run_dir / "log.jsonl").read_text().splitlines())
    return [
        (before + entry["step"] * batch_size, entry["metrics"]["top1"])
        for entry in history
        if "metrics" in entry
    ]


def scores_of(model: Any, study: Study) -> dict[str, float]:
    """Zero-shot and perhaps linear probe on test pictures, none of them seen in training or tuning."""
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


def _line(way: Way, results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean ± standard deviation over seeds, and how many pairs it needs to be as good as its goal ever is."""
    found, of_goal = results[way.name], _mean_curve(results[way.goal])
    goal = max(accuracy for _, accuracy in of_goal)
    needed = next(pairs for pairs, accuracy in of_goal if accuracy == goal)
    reached = [pairs for pairs, accuracy in _mean_curve(found) if accuracy >= goal]
    return {
        "way": way.name,
        "parameters": round(mean(result["parameters"] for result in found)),
        **{
            name: mean_and_spread([result[name] for result in found])
            for name in found[0]
            if name not in ("way", "lr", "seed", "steps", "curve", "parameters")
        },
        f"pairs to the best of {way.goal.split()[0]}": reached[0] if reached else "not reached",
        "times fewer": f"{needed / reached[0]:.1f}" if reached else None,
    }


def _mean_curve(results: list[dict[str, Any]]) -> list[tuple[int, float]]:
    points = zip(*(result["curve"] for result in results), strict=True)
    return [(of_seeds[0][0], mean(accuracy for _, accuracy in of_seeds)) for of_seeds in points]


def _curves(ways: Sequence[Way], results: dict[str, list[dict[str, Any]]]) -> bytes:
    """Validation accuracy over pairs seen, a line a way, its range over seeds shaded."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles = list(dict.fromkeys(way.panel for way in ways))
    figure = Figure(figsize=(max(6, 5 * len(titles)), 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = dict(zip(titles, figure.subplots(1, len(titles), sharey=True, squeeze=False)[0], strict=True))
    colors: dict[str, str] = {}
    for way in ways:
        found, panel = results[way.name], panels[way.panel]
        pairs, accuracy = zip(*_mean_curve(found), strict=True)
        color = colors.setdefault(way.name.rstrip("0123456789. "), f"C{len(colors)}")  # of all sizes
        panel.plot(pairs, accuracy, color=color, label=way.name)
        seeds = list(zip(*([a for _, a in result["curve"]] for result in found), strict=True))
        low, high = [min(point) for point in seeds], [max(point) for point in seeds]
        panel.fill_between(pairs, low, high, color=color, alpha=0.2, linewidth=0)
    for title, panel in panels.items():
        panel.set(xlabel="pairs seen", title=title)
        panel.legend()
    panels[titles[0]].set_ylabel("zero-shot top-1 on validation, percent")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
