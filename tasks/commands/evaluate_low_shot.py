"""Run the low-shot protocol of a task: methods × numbers of labels × seeds, in and out of domain, in one report.

Finished cells are skipped: a killed grid goes on with the same command, and methods, labels or seeds may be added. What
follows "--" are the task's own options, as of finetune_TASK.py; without --data-root among them: the embedded benchmark.

    python scripts/evaluate_low_shot.py --task vcr --fractions 0.01 0.05 0.1 1.0 --methods none naive targeted \\
        --seeds 0 1 2 3 4 --out runs/low_shot_vcr -- --data-root vcr1 --teacher ViT-L-14 --pretrained openai
    python scripts/evaluate_low_shot.py --task snli_ve --items 100 500 --processes 2 --out runs/low_shot_snli_ve
"""

from dataclasses import dataclass

from cliptd.utils.tables import print_table
from tasks.command_line import command
from tasks.known_tasks import TaskName, parse
from tasks.low_shot.grid import Grid, run_grid
from tasks.low_shot.report import write_report


@dataclass(kw_only=True)
class EvaluateLowShot(Grid):
    """Settings of the grid."""

    task: TaskName
    """Which task; its own options follow after "--"."""


@command
def main(arguments: list[str]) -> None:
    grid, task, settings = parse(EvaluateLowShot, __doc__, arguments)
    outcome = run_grid(grid, settings, task.task_class)
    title = f"{settings.task}: student {settings.student}, teacher {settings.teacher}"
    table = write_report(grid, outcome, settings.metrics, main=task.main_metric, title=title)
    if outcome.tuning:
        print_table(outcome.tuning, title="validation")
    print_table(table, title=title)
    print(f"Report: {(grid.out / 'report.html').resolve()}")


if __name__ == "__main__":
    main()
