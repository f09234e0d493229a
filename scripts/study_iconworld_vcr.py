"""The table of tasks/iconworld/README.md: what distillation does at few and many labels, in and out of domain.

Every method gets as many tuning trials as any other, scored on validation items at one number of labels; the trial
with the best validation score runs with every seed and number of labels, and only then are the test sets opened. Cells
that are finished are not run again.

    python scripts/study_iconworld_vcr.py --out runs/study_vcr --processes 2 --mixed-precision bf16
"""

import dataclasses
import json
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
from tasks.iconworld.defaults import vcr_root, vcr_settings, with_data
from tasks.vcr.finetune import FinetuneVcr, build_store, finetune, load_collate
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
    seeds: tuple[int, ...] = (0, 1, 2)
    tuned_at: int = 500
    """Labelled items of the tuning trials; their seed is none of the study's."""
    test_items: int = 2000
    """Items of each test set."""
    processes: int = 2
    """Cells trained at the same time, one thread each on a CPU."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=250, batch_size=32, warmup_steps=25, eval_every=125, save_every=0, metric="mean"
        )
    )


TUNING_SEED = 1000


def trials(method: Preset) -> list[dict[str, float]]:
    """Three settings of each method: learning rates for "none", learning rate and distillation weight else.

    >>> [len(trials(method)) for method in ("none", "naive", "targeted")]
    [3, 3, 3]
    """
    if method == "none":
        return [{"lr": lr} for lr in (2e-4, 5e-4, 1e-3)]
    return [{"lr": lr, "weight": weight} for lr, weight in ((5e-4, 0.25), (5e-4, 1.0), (1e-3, 0.25))]


def cell(
    study: Study, method: Preset, trial: dict[str, float], items: int, seed: int, *, test: bool
) -> FinetuneVcr:
    """The settings of one run."""
    name = "_".join([method, *(f"{k}{v:g}" for k, v in trial.items()), f"items{items}", f"seed{seed}"])
    settings = vcr_settings()
    weight = trial.get("weight")
    changes = dataclasses.replace(settings.distillation)
    if weight is not None:
        changes = dataclasses.replace(changes, image_weight=weight, text_weight=weight, word_weight=weight)
    return dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, data_root=vcr_root(), items=items, validation_items=500),
        methods=(method,),
        distillation=changes,
        store=study.out / "store",
        test_sets=tuple(TEST_SETS) if test else (),
        max_test_items=study.test_items,
        run_dir=study.out / ("cells" if test else "trials") / name,
        training=dataclasses.replace(study.training, lr=trial["lr"], seed=seed),
    )


def run_cell(settings: FinetuneVcr) -> list[dict]:
    """The rows of one run, from its folder if it is finished."""
    finished = settings.run_dir / "results.json"
    if finished.exists():
        return json.loads(finished.read_text())["rows"]
    return finetune(settings)


def validation_score(rows: list[dict]) -> float:
    return next(row["mean"] for row in rows if row["test_set"] == "validation")


def main(study: Study) -> None:
    _build_shared_store(study)
    with ProcessPoolExecutor(
        study.processes, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
    ) as pool:
        options = [(method, trial) for method in study.methods for trial in trials(method)]
        cells = [cell(study, m, t, study.tuned_at, TUNING_SEED, test=False) for m, t in options]
        scores = [validation_score(rows) for rows in pool.map(run_cell, cells)]
        tuning = [{"method": m, **t, "validation": s} for (m, t), s in zip(options, scores, strict=True)]
        chosen = {}
        for method in study.methods:
            best = max((row for row in tuning if row["method"] == method), key=lambda row: row["validation"])
            chosen[method] = {key: best[key] for key in ("lr", "weight") if key in best}
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
    settings = with_data(vcr_settings(), data_root=vcr_root(), items=None)
    marker = study.out / "store" / "complete"
    if marker.exists() and marker.read_text() == " ".join(study.methods):
        return
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
