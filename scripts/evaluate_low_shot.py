"""The low-shot protocol of a task: methods × numbers of labels × seeds, in and out of domain, in one report.

Finished cells are skipped: a killed grid goes on with the same command, and methods, labels or seeds may be added. What
follows "--" are the task's own options, as of finetune_TASK.py; without --data-root among them: the embedded benchmark.

    python scripts/evaluate_low_shot.py --task vcr --fractions 0.01 0.05 0.1 1.0 --methods none naive targeted \\
        --seeds 0 1 2 3 4 --out runs/low_shot_vcr -- --data-root vcr1 --teacher ViT-L-14 --pretrained openai
    python scripts/evaluate_low_shot.py --task snli_ve --items 100 500 --processes 2 --out runs/low_shot_snli_ve
"""

import sys
from dataclasses import dataclass
from typing import Literal

import tyro

from cliptd.report import print_table
from tasks.iconworld.defaults import (
    from_command_line,
    snli_ve_root,
    snli_ve_settings,
    vcr_root,
    vcr_settings,
    vqa_root,
    vqa_settings,
)
from tasks.low_shot import Grid, run_grid
from tasks.low_shot_report import write_report
from tasks.snli_ve.task import SnliVeTask
from tasks.vcr.task import VcrTask
from tasks.vqa.task import VqaTask

TASKS = {
    "vcr": (vcr_settings, vcr_root, VcrTask, "q_to_ar"),
    "vqa": (vqa_settings, vqa_root, VqaTask, "overall"),
    "snli_ve": (snli_ve_settings, snli_ve_root, SnliVeTask, "accuracy"),
}


@dataclass(kw_only=True)
class EvaluateLowShot(Grid):
    """Settings of the grid."""

    task: Literal["vcr", "vqa", "snli_ve"]
    """Which task; its own options follow after "--"."""


def main() -> None:
    own = sys.argv[1:]
    end = own.index("--") if "--" in own else len(own)
    grid = tyro.cli(EvaluateLowShot, args=own[:end], description=__doc__)
    settings, root, task_class, main_metric = TASKS[grid.task]
    base = from_command_line(settings(), root, f"The task's options of {grid.task}.", own[end + 1 :])
    outcome = run_grid(grid, base, task_class)
    title = f"{base.task}: student {base.student}, teacher {base.teacher}"
    table = write_report(grid, outcome, base.metrics, main=main_metric, title=title)
    if outcome.tuning:
        print_table(outcome.tuning, title="validation")
    print_table(table, title=title)
    print(f"Report: {(grid.out / 'report.html').resolve()}")


if __name__ == "__main__":
    main()
