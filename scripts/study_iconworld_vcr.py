"""The table of tasks/iconworld/README.md: what distillation does at few and many labels, in and out of domain.

The low-shot protocol (scripts/evaluate_low_shot.py) on the embedded benchmark's VCR with the settings of the table.

    python scripts/study_iconworld_vcr.py --out runs/study_vcr --processes 2
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cliptd.report import print_table
from cliptd.training import TrainingConfig
from tasks.iconworld.defaults import on_iconworld, vcr_root, vcr_settings, with_data
from tasks.iconworld.vcr import VcrSizes
from tasks.low_shot import Grid, run_grid
from tasks.low_shot_report import write_report
from tasks.vcr.task import VcrTask


@dataclass(kw_only=True)
class Study(Grid):
    """Settings of the study."""

    out: Path = Path("runs/study_vcr")
    items: tuple[int, ...] = (200, 500, 3000)
    steps_at: tuple[int, ...] = (300, 300, 1200)
    seeds: tuple[int, ...] = (1, 2, 3)
    lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
    tuned_at: int = 1
    tuning_seeds: tuple[int, ...] = (1000,)
    shared_store: bool = True
    processes: int = 2
    validation_items: int = 500
    """Training items that choose the learning rate and the best step."""
    test_items: int = 2000
    """Items of each test set."""
    data_seed: int = 1
    """Of the benchmark's files; those of seed 0 were read while the settings were sought."""
    sizes: VcrSizes = field(default_factory=VcrSizes)
    """Items that the benchmark's files hold."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            batch_size=16, warmup_steps=30, eval_every=150, save_every=0, metric="mean"
        )
    )


def main(study: Study) -> None:
    settings = with_data(vcr_settings(), validation_items=study.validation_items)
    settings = on_iconworld(settings, vcr_root(seed=study.data_seed, sizes=study.sizes))
    settings = dataclasses.replace(settings, max_test_items=study.test_items, training=study.training)
    outcome = run_grid(study, settings, VcrTask)
    title = "VCR on iconworld"
    table = write_report(study, outcome, settings.metrics, main="q_to_ar", title=title)
    print_table(outcome.tuning, title="validation")
    print_table(table, title=title)


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
