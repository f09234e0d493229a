"""Make the tables of the three tasks: what distillation does at few and many labels, in and out of domain.

It runs the low-shot protocol (scripts/evaluate_low_shot.py) on a task of the embedded benchmark, with the settings of
its table.

    python scripts/studies/study_iconworld.py vqa --processes 2
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cliptd.targeted.config import Method
from cliptd.training import TrainingConfig
from cliptd.utils.tables import print_table
from tasks.iconworld.defaults import on_iconworld, with_data
from tasks.iconworld.files.snli_ve import SnliVeSizes
from tasks.iconworld.files.vcr import VcrSizes
from tasks.iconworld.files.vqa import VqaSizes
from tasks.known_tasks import TASKS, TaskName
from tasks.low_shot.grid import Grid
from tasks.low_shot.report import write_report
from tasks.low_shot.run import run_grid


def _training(**of_the_task) -> TrainingConfig:
    return TrainingConfig(warmup_steps=30, eval_every=150, save_every=0, **of_the_task)


@dataclass(kw_only=True)
class Study(Grid):
    """Settings of the study."""

    task: tyro.conf.Fixed[TaskName]
    methods: tuple[Method, ...] = (
        "none",
        "naive",
        "random_words",
        "targeted",
        "adapted_teacher",
        "shuffled_teacher",
        "teacher_input",
    )
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    first_seeds: dict[Method, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("random_words", "selected", "adapted_teacher", "shuffled_teacher", "teacher_input"), 3
        )
    )
    lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
    shared_store: bool = True
    validation_items: int = 500
    """Training items that choose the learning rate and the best step."""
    test_items: int = 2000
    """Items of each test set."""
    data_seed: int = 2
    """Seed of the benchmark's files. Those of seed 0 were read while the settings were sought."""
    sizes: VcrSizes | VqaSizes | SnliVeSizes
    """Numbers of items in the benchmark's files."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig]


STUDIES = {
    "vcr": Study(
        task="vcr",
        out=Path("runs/study_vcr"),
        items=(500, 3000, 5500),
        steps_at=(300, 600, 1200),
        sizes=VcrSizes(),
        training=_training(batch_size=16, metric="mean"),
    ),
    "vqa": Study(
        task="vqa",
        out=Path("runs/study_vqa"),
        items=(600, 2000, 5300),
        steps_at=(600, 600, 1200),
        tuned_at=1,
        sizes=VqaSizes(),
        training=_training(batch_size=32, metric="overall"),
    ),
    "snli_ve": Study(
        task="snli_ve",
        out=Path("runs/study_snli_ve"),
        items=(600, 2000, 5300),
        steps_at=(600, 600, 1200),
        tuned_at=1,
        sizes=SnliVeSizes(),
        training=_training(batch_size=32, metric="accuracy"),
    ),
}


def main(study: Study) -> None:
    known = TASKS[study.task]
    settings = with_data(known.settings(), validation_items=study.validation_items)
    settings = on_iconworld(settings, known.root(seed=study.data_seed, sizes=study.sizes))
    settings = dataclasses.replace(settings, max_test_items=study.test_items, training=study.training)
    outcome = run_grid(study, settings, known)
    title = f"{settings.task} on iconworld"
    _, table = write_report(study, outcome, settings.metrics, known=known, title=title)
    print_table(outcome.tuning, title="validation")
    print_table(table, title=title)


if __name__ == "__main__":
    studies = {name: (f"The study of {name}.", study) for name, study in STUDIES.items()}
    main(tyro.extras.overridable_config_cli(studies, description=__doc__))
