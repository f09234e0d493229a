"""Run the low-shot protocol of a task: methods × numbers of labels × seeds, in and out of domain, in one report.

The task's own options follow after "--", the same as those of finetune_TASK. Without --data-root among them the task is
the embedded benchmark's. A stopped grid goes on with the same command, and methods, labels or seeds may be added.

    python scripts/evaluate_low_shot.py --task snli_ve --items 100 500 --seeds 0 1 2 --out runs/low_shot_snli_ve
    python scripts/evaluate_low_shot.py --task vcr --fractions 0.01 0.05 0.1 1.0 --methods none naive targeted \\
        --seeds 0 1 2 3 4 --out runs/low_shot_vcr -- --data-root vcr1 --teacher ViT-L-14 --pretrained openai
"""

import shlex
from dataclasses import dataclass

from tasks.command_line import as_started, command
from tasks.known_tasks import TaskName, parse
from tasks.low_shot.grid import Grid, Outcome, cells
from tasks.settings import FinetuneSettings


@dataclass(kw_only=True)
class EvaluateLowShot(Grid):
    """Settings of the grid."""

    task: TaskName
    """The task."""


@command
def main(arguments: list[str]) -> None:
    grid, known, settings = parse(EvaluateLowShot, __doc__, arguments)
    from cliptd.data.identity import wherever
    from cliptd.utils.tables import print_table
    from tasks.low_shot.report import write_report
    from tasks.low_shot.run import run_grid

    outcome = run_grid(grid, settings, known)
    title = f"{settings.task}: student {wherever(settings.student)}, teacher {wherever(settings.teacher)}"
    said, table = write_report(grid, outcome, settings.metrics, known=known, title=title)
    shown = ("labelled", "method", *settings.metrics.values(), "difference [95 %]")
    if outcome.tuning:
        print_table(outcome.tuning, title="validation")
    print(title)
    for test_set in outcome.test_sets:
        rows = [{name: row.get(name) for name in shown} for row in table if row["test set"] == test_set]
        print_table(rows, title=f"{test_set}, in percent")
    for sentence in said:
        print(sentence)
    print(f"Report: {(grid.out / 'report.html').resolve()}")
    print(as_started(_next(grid, settings, outcome, arguments)))


def _next(grid: EvaluateLowShot, settings: FinetuneSettings, outcome: Outcome, arguments: list[str]) -> str:
    """Return what to do next: more seeds below three, else a look at what a trained student learned from."""
    if len(grid.seeds) < 3:
        return (
            "Next: the same command with three --seeds or more, which show whether a difference is conclusive"
        )
    distilled = [method for method in grid.methods if settings.method_config(method).distils]
    if not distilled:
        return "Next: the same command with a method that distils, such as targeted, among --methods"
    method = "targeted" if "targeted" in distilled else distilled[-1]
    run = next(run for run in cells(grid, settings, outcome.rates) if run.settings.methods == (method,))
    student = run.settings.run_dir / method / "student"
    own = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    given = shlex.join([*own, "--student", str(student)])  # the last of two --student counts
    return f"Next: python scripts/inspect_selection.py --task {grid.task} --method {method} -- {given}"


if __name__ == "__main__":
    main()
