"""The table of tasks/iconworld/README.md: what distillation does at few and many labels, in and out of domain.

Every method gets as many tuning trials as any other, scored on validation items at one number of labels; the trial
with the best validation score runs with every seed and number of labels, and only then are the test sets opened. Cells
that are finished are not run again.

    python scripts/study_iconworld_vcr.py --out runs/study_vcr --processes 2
"""

import dataclasses
import json
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

import torch
import tyro

from cliptd.report import markdown_table, print_table
from cliptd.targeted.config import Preset
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig
from tasks.iconworld.defaults import on_iconworld, vcr_root, vcr_settings, with_data
from tasks.iconworld.vcr import VcrSizes
from tasks.teacher_source import build_store
from tasks.vcr.finetune import finetune, load_collate
from tasks.vcr.settings import FinetuneVcr
from tasks.vcr.split import training_sets

TEST_SETS = {"val": "in domain", "val_shifted": "unseen families", "singular": "shortcut broken"}


@dataclass
class Study:
    """Settings of the study."""

    out: Path = Path("runs/study_vcr")
    """Folder of the cells and of the table."""
    methods: tuple[Preset, ...] = ("none", "naive", "targeted")
    items: tuple[int, ...] = (200, 500, 3000)
    """Labelled items."""
    steps_at: tuple[int, ...] = (300, 300, 1200)
    """Training steps at each number of labelled items, the same for every method."""
    seeds: tuple[int, ...] = (1, 2, 3)
    tuned_at: int = 500
    """Labelled items of the tuning trials; their seed is none of the study's."""
    lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
    """Learning rates tried for every method."""
    validation_items: int = 500
    """Training items that choose the learning rate and the best step."""
    test_items: int = 2000
    """Items of each test set."""
    data_seed: int = 1
    """Of the benchmark's files; those of seed 0 were read while the settings were sought."""
    sizes: VcrSizes = field(default_factory=VcrSizes)
    """Items that the benchmark's files hold."""
    processes: int = 2
    """Cells trained at the same time, one thread each on a CPU."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            batch_size=16, warmup_steps=30, eval_every=150, save_every=0, metric="mean"
        )
    )


TUNING_SEED = 1000


def benchmark(study: Study) -> FinetuneVcr:
    """The settings that all runs share."""
    settings = with_data(vcr_settings(), validation_items=study.validation_items)
    return on_iconworld(settings, vcr_root(seed=study.data_seed, sizes=study.sizes))


def cell(study: Study, method: Preset, lr: float, items: int, seed: int, *, test: bool) -> FinetuneVcr:
    """The settings of one run."""
    steps = dict(zip(study.items, study.steps_at, strict=True))[items]
    return dataclasses.replace(
        with_data(benchmark(study), items=items),
        methods=(method,),
        store=study.out / "store",
        test_sets=tuple(TEST_SETS) if test else (),
        max_test_items=study.test_items,
        run_dir=study.out
        / ("cells" if test else "trials")
        / f"{method}_lr{lr:g}_items{items}_steps{steps}_seed{seed}",
        training=dataclasses.replace(study.training, lr=lr, steps=steps, seed=seed),
    )


def run_cell(settings: FinetuneVcr) -> list[dict]:
    """The rows of one run, from its folder if it is finished."""
    finished = settings.run_dir / "results.json"
    if finished.exists():
        return json.loads(finished.read_text())["rows"]
    return finetune(settings)


def validation_score(settings: FinetuneVcr) -> float:
    """Of one tuning trial; minus infinity if it diverged, which a learning rate tried may do."""
    try:
        rows = run_cell(settings)
    except FloatingPointError:
        return -math.inf
    return next(row["mean"] for row in rows if row["test_set"] == "validation")


def main(study: Study) -> None:
    _build_shared_store(study)
    with ProcessPoolExecutor(
        study.processes, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
    ) as pool:
        options = [(method, lr) for method in study.methods for lr in study.lrs]
        cells = [cell(study, m, lr, study.tuned_at, TUNING_SEED, test=False) for m, lr in options]
        scores = list(pool.map(validation_score, cells))
        tuning = [
            {
                "method": m,
                "learning rate": f"{lr:g}",
                "validation": f"{score:.1f}" if math.isfinite(score) else "diverged",
            }
            for (m, lr), score in zip(options, scores, strict=True)
        ]
        chosen = {
            method: lr
            for (method, lr), _ in sorted(zip(options, scores, strict=True), key=lambda pair: pair[1])
        }
        grid = [(m, n, s) for n in study.items for s in study.seeds for m in study.methods]
        cells = [cell(study, m, chosen[m], n, s, test=True) for m, n, s in grid]
        rows = [row for cell_rows in pool.map(run_cell, cells) for row in cell_rows]
    with open(study.out / "results.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    table = summary(study, rows)
    print_table(tuning, title=f"validation, {study.tuned_at} labelled items")
    print_table(table, title="test sets, percent")
    text = "\n\n".join([markdown_table(tuning), markdown_table(table)])
    (study.out / "table.md").write_text(text + "\n", encoding="utf-8")


def summary(study: Study, rows: list[dict]) -> list[dict]:
    """One line a test set, number of labels and method: mean ± standard deviation over seeds, and the gain.

    The gain is relative to "none" of the same seeds, in percent of its mean Q→AR.
    """
    table = []
    for test_set, title in TEST_SETS.items():
        for items in study.items:
            for method in study.methods:
                of_cell = {
                    row["seed"]: row
                    for row in rows
                    if (row["test_set"], row["labelled"], row["method"]) == (test_set, items, method)
                }
                line = {"test set": title, "labelled": items, "method": method, "seeds": len(of_cell)}
                for key, name in {"q_to_a": "Q→A", "qa_to_r": "QA→R", "q_to_ar": "Q→AR"}.items():
                    values = [row[key] for row in of_cell.values()]
                    spread = stdev(values) if len(values) > 1 else 0.0
                    line[name] = f"{mean(values):.1f} ± {spread:.1f}"
                    line[f"_{key}"] = mean(values)
                table.append(line)
    base = {(r["test set"], r["labelled"]): r["_q_to_ar"] for r in table if r["method"] == "none"}
    for line in table:
        none = base.get((line["test set"], line["labelled"]))
        if none:
            line["Q→AR gain"] = f"{100 * (line['_q_to_ar'] / none - 1):+.0f} %"
    return [{k: v for k, v in line.items() if not k.startswith("_")} for line in table]


def _build_shared_store(study: Study) -> None:
    """The teacher looks at every training item once, for all cells."""
    marker = study.out / "store" / "complete"
    if marker.exists() and marker.read_text() == " ".join(study.methods):
        return
    settings = with_data(benchmark(study), items=None)
    training_set, _, _ = training_sets(settings.data, settings.seed)
    teacher, collate = load_teacher(settings.teacher), load_collate(settings)
    for method in study.methods:
        config = settings.method_config(method)
        if config.distils:
            build_store(study.out / "store", teacher, config, training_set, collate)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(" ".join(study.methods))


def _one_thread() -> None:
    if not torch.cuda.is_available():
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


if __name__ == "__main__":
    main(tyro.cli(Study))
