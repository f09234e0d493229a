"""How a small dual encoder is best had: trained alone, distilled, inherited, masked or in stages (TinyCLIP's claims).

Students of a half and of a quarter of the teacher's parameters on the embedded benchmark, each way with the same number
of training pairs in all its stages, the learning rate tuned alike on validation pictures, test pictures seen once.
Finished cells are not run again.

    python scripts/study_compression.py --processes 2
"""

import dataclasses
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import torch
import tyro

from cliptd.compression import compress
from cliptd.distillation import Distillation, distil
from cliptd.embedding.inheritance import inherit_weights, share_config
from cliptd.embedding.inheritance.student_config import build_student
from cliptd.embedding.pairs import OpenedPairs, store_pairs
from cliptd.embedding.student import Student, load_student
from cliptd.evaluation.zero_shot import zero_shot
from cliptd.report import markdown_table, print_table
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig, make_accelerator
from cliptd.training.files import write_atomically
from tasks.iconworld.classes import TEMPLATES, IconClasses
from tasks.iconworld.glyphs import SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.models import TEACHER
from tasks.iconworld.pairs import IconworldPairs
from tasks.low_shot import mean_and_spread
from tasks.processes import process_pool

Way = Literal["scratch", "distilled", "inherited", "masks", "stages"]


@dataclass(frozen=True)
class Row:
    """A way to a student of a share of the teacher's matrices."""

    way: Way
    share: float

    def __str__(self) -> str:
        return f"{self.way} {self.share:g}"


ROWS = (
    Row("scratch", 0.5),
    Row("distilled", 0.5),
    Row("inherited", 0.5),
    Row("masks", 0.5),
    Row("scratch", 0.25),
    Row("inherited", 0.25),
    Row("stages", 0.25),
)
WHAT = {
    "scratch": "fresh weights, contrastive loss, no teacher",
    "distilled": "fresh weights, affinity mimicking",
    "inherited": "the teacher's leading channels and evenly spaced layers, affinity mimicking",
    "masks": "masks learned over half the pairs, pruned, affinity mimicking over the other half",
    "stages": "inherited at a half, then at a quarter, half of the pairs each, affinity mimicking",
}


@dataclass(kw_only=True)
class StudyCompression:
    """Settings of the study."""

    out: Path = Path("runs/study_compression")
    """Folder of the cells and of the report."""
    pairs: int = 20_000
    """Training pairs."""
    pictures: int = 1000
    """Of each of validation, test and unseen families."""
    tuning_steps: int = 600
    """Of a tuning trial."""
    lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
    """Learning rates tried for every row."""
    tuning_seed: int = 1000
    """Of the tuning trials."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of fresh weights, masks and the order of the pairs, the same for every row."""
    processes: int = 1
    """Cells trained at the same time."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=1200, batch_size=64, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=30,
            eval_every=100, save_every=0, metric="top1",
        )
    )  # fmt: skip


def main(study: StudyCompression) -> None:
    teacher = load_teacher(str(TEACHER))
    store_pairs(study.out / "store", teacher, OpenedPairs(IconworldPairs(study.pairs)))
    with process_pool(study.processes) as pool:
        trials = [(row, lr) for row in ROWS for lr in study.lrs]
        if len(study.lrs) > 1:
            found = pool.map(_trial, *zip(*((study, *trial) for trial in trials), strict=True))
            scores = dict(zip(trials, found, strict=True))
        else:
            scores = dict.fromkeys(trials, math.nan)  # there is nothing to choose
        rates = {row: max(study.lrs, key=lambda lr: scores[row, lr]) for row in ROWS}
        cells = [(row, seed) for seed in study.seeds for row in ROWS]
        asked = ((study, row, rates[row], seed, study.training.steps, True) for row, seed in cells)
        results = list(pool.map(run_cell, *zip(*asked, strict=True)))
    tuning = [{"row": str(row), **{f"{lr:g}": round(scores[row, lr], 1) for lr in study.lrs}} for row in ROWS]
    of = {row: [r for (other, _), r in zip(cells, results, strict=True) if other == row] for row in ROWS}
    table = summary(of, teacher, study)
    (study.out / "curves.png").write_bytes(curves(of))
    ways = [{"way": way, "what": what} for way, what in WHAT.items()]
    report = ["# Compression on iconworld", markdown_table(ways), markdown_table(table)]
    report += ["![validation accuracy over pairs seen](curves.png)", "## Tuning", markdown_table(tuning)]
    write_atomically(study.out / "report.md", "\n\n".join(report) + "\n")
    print_table(tuning, title="tuning: validation top-1 by learning rate")
    print_table(table, title="zero-shot top-1, in percent")


def _trial(study: StudyCompression, row: Row, lr: float) -> float:
    result = run_cell(study, row, lr, study.tuning_seed, study.tuning_steps, False)
    return max(accuracy for _, accuracy in result["curve"])


def run_cell(
    study: StudyCompression, row: Row, lr: float, seed: int, steps: int, test: bool
) -> dict[str, Any]:
    """{"curve": [[pairs seen, validation top-1], …], "parameters", "test", "unseen"}, from its folder if finished."""
    run_dir = study.out / ("cells" if test else "trials") / f"{row.way}_{row.share:g}_lr{lr:g}_seed{seed}"
    done = run_dir / "results.json"
    if done.exists():
        return json.loads(done.read_text())
    teacher, student = load_teacher(str(TEACHER)), load_student(str(TEACHER))
    parts = 2 if row.way in ("masks", "stages") else 1
    training = dataclasses.replace(study.training, lr=lr, seed=seed, steps=steps // parts)
    settings = Distillation(
        objective="contrastive" if row.way == "scratch" else "affinity",
        source="store", store=study.out / "store", mask_lr=0.1, ramp_steps=training.steps // 2, training=training,
    )  # fmt: skip
    pictures = IconClasses(SEEN_FAMILIES, images=study.pictures, seed=2)
    options = {
        "evaluate": lambda model: {"top1": zero_shot(model, pictures, TEMPLATES)["top1"]},
        "accelerator": make_accelerator(training, run_dir),
    }
    pairs = IconworldPairs(study.pairs)
    if parts == 2:
        shares = (row.share,) if row.way == "masks" else (2 * row.share, row.share)
        compress(
            student,
            teacher,
            pairs,
            settings,
            shares,
            learned_masks=row.way == "masks",
            run_dir=run_dir,
            **options,
        )
        student = load_student(str(run_dir / f"stage-{row.share:g}" / "model"))
        last = run_dir / f"stage-{row.share:g}" / "run"
    else:
        last, student = run_dir / "run", _shrunk(student, row, seed)
        distil(student, teacher, pairs, settings, run_dir=last, **options)
    before = (steps - training.steps) * training.batch_size
    history = map(json.loads, (last / "log.jsonl").read_text().splitlines())
    curve = [
        [before + entry["step"] * training.batch_size, entry["metrics"]["top1"]]
        for entry in history
        if "metrics" in entry
    ]
    result = {"curve": curve, "parameters": student.parameters}
    if test:
        result |= scores_of(student, study.pictures)
    write_atomically(done, json.dumps(result) + "\n")
    return result


def _shrunk(student: Student, row: Row, seed: int) -> Student:
    """The student at the row's size, with the teacher's weights or fresh ones."""
    config = share_config(student.config["model_cfg"], row.share)
    if row.way == "inherited":
        model = inherit_weights(student.model, config)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_student(config)
    return dataclasses.replace(student, model=model, config={**student.config, "model_cfg": config})


def scores_of(model: Any, pictures: int) -> dict[str, float]:
    """Of the test pictures, none of them seen in training or tuning."""
    sets = {"test": SEEN_FAMILIES, "unseen": UNSEEN_FAMILIES}
    return {
        name: zero_shot(model, IconClasses(families, images=pictures, seed=3), TEMPLATES)["top1"]
        for name, families in sets.items()
    }


def summary(
    results: dict[Row, list[dict[str, Any]]], teacher: Any, study: StudyCompression
) -> list[dict[str, Any]]:
    """A line a row: mean ± standard deviation over seeds, and how many pairs it needs to be as good as scratch."""
    size = sum(parameter.numel() for parameter in teacher.model.parameters())
    lines = [{"row": "teacher", "share": 1.0, "parameters": size}]
    lines[0] |= {name: f"{score:.1f}" for name, score in scores_of(teacher, study.pictures).items()}
    for row, found in results.items():
        scratch = dict(mean_curve(results[Row("scratch", row.share)]))
        goal = max(scratch.values())
        reached = [pairs for pairs, accuracy in mean_curve(found) if accuracy >= goal]
        line = {"row": row.way, "share": row.share, "parameters": round(mean(r["parameters"] for r in found))}
        line |= {name: mean_and_spread([r[name] for r in found]) for name in ("test", "unseen")}
        line["pairs to scratch's best"] = reached[0] if reached else "not reached"
        line["times fewer"] = (
            f"{min(p for p in scratch if scratch[p] == goal) / reached[0]:.1f}" if reached else None
        )
        lines.append(line)
    return lines


def mean_curve(results: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(pairs seen, validation accuracy), the mean over seeds."""
    points = zip(*(result["curve"] for result in results), strict=True)
    return [(of_seeds[0][0], mean(accuracy for _, accuracy in of_seeds)) for of_seeds in points]


def curves(results: dict[Row, list[dict[str, Any]]]) -> bytes:
    """A picture: validation accuracy over pairs seen, a panel a size, a line a way, its range over seeds shaded."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = list(dict.fromkeys(row.share for row in results))
    figure = Figure(figsize=(5 * len(shares), 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = dict(zip(shares, figure.subplots(1, len(shares), sharey=True, squeeze=False)[0], strict=True))
    for row, found in results.items():
        pairs, accuracy = zip(*mean_curve(found), strict=True)
        seeds = list(zip(*([a for _, a in result["curve"]] for result in found), strict=True))
        color = f"C{list(WHAT).index(row.way)}"
        panels[row.share].plot(pairs, accuracy, color=color, label=row.way)
        low, high = [min(point) for point in seeds], [max(point) for point in seeds]
        panels[row.share].fill_between(pairs, low, high, color=color, alpha=0.2, linewidth=0)
    for share, panel in panels.items():
        panel.set(xlabel="pairs seen", title=f"{share:g} of the teacher's matrices")
        panel.legend()
    panels[shares[0]].set_ylabel("zero-shot top-1 on validation, percent")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


if __name__ == "__main__":
    main(tyro.cli(StudyCompression, description=__doc__))
