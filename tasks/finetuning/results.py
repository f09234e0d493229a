"""The end of a run: its table, its learning curves, and what came of it in words."""

import shlex
from collections.abc import Sequence
from typing import Any

from cliptd.data.identity import wherever
from cliptd.training import read_log
from cliptd.utils.learning_curves import plot_learning_curves
from cliptd.utils.tables import markdown_table, print_table
from tasks.command_line import as_started
from tasks.known_tasks import TASKS, KnownTask
from tasks.settings import FinetuneSettings

TERMS = {
    "image_weight": "image",
    "region_weight": "boxes",
    "word_weight": "words",
    "text_weight": "sentences",
}


EXAMPLES = "examples.html"
FILES = ("report.md", "learning_curves.png", EXAMPLES, "results.json")
SET_BY_GRID = ("--methods", "--items", "--fraction", "--seed", "--run-dir")
"""Options of a run that evaluate_low_shot.py sets itself."""


def report(
    settings: FinetuneSettings, rows: list[dict[str, Any]], known: KnownTask, arguments: Sequence[str]
) -> None:
    """Write report.md and learning_curves.png into the run folder, and say what came of the run.

    Args:
        arguments: as for `say`.
    """
    metric = settings.training.metric
    plot_learning_curves(
        {method: read_log(settings.run_dir / method / "log.jsonl") for method in settings.methods},
        settings.run_dir / "learning_curves.png",
        metric=metric,
        metric_name=settings.metrics.get(str(metric), str(metric)),
        title=f"{settings.task}, {rows[0]['labelled']} labelled items, seed {settings.seed}",
    )
    said = conclusion(settings, rows, known.main_metric)
    table = markdown_table(table_rows(settings, rows))
    parts = [f"# {_title(settings, rows)}", *said, table, "![learning curves](learning_curves.png)"]
    if (settings.run_dir / EXAMPLES).is_file():
        parts.append(f"[Right and wrong examples]({EXAMPLES})")
    (settings.run_dir / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    say(settings, rows, known, arguments)


def say(
    settings: FinetuneSettings, rows: list[dict[str, Any]], known: KnownTask, arguments: Sequence[str]
) -> None:
    """Print the table, the conclusion, the run folder and the next commands.

    Args:
        arguments: the task's options as they were typed, which the next commands repeat.
    """
    print_table(table_rows(settings, rows), title=_title(settings, rows))
    for line in conclusion(settings, rows, known.main_metric):
        print(line)
    print(f"Run folder: {settings.run_dir.resolve()}")
    files = [name for name in FILES if (settings.run_dir / name).is_file()]
    print(f"In it: {', '.join([*files, 'METHOD/student'])}")
    for line in next_commands(settings, known, arguments):
        print(as_started(line))


def _title(settings: FinetuneSettings, rows: list[dict[str, Any]]) -> str:
    student, teacher = wherever(settings.student), wherever(settings.teacher)
    return (
        f"{settings.task} in percent: student {student}, teacher {teacher}, {rows[0]['labelled']} labelled items, "
        f"seed {settings.seed}"
    )


def table_rows(settings: FinetuneSettings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the result rows as people read them."""
    shown = []
    for row in rows:
        config = settings.method_config(row["method"])
        terms = [name for weight, name in TERMS.items() if getattr(config, weight) > 0]
        if not settings.sees_boxes and "boxes" in terms:
            terms.remove("boxes")
        shown.append(
            {
                "method": row["method"],
                "distilled": " + ".join(terms) or "nothing",
                "test set": row["test_set"],
                "items": int(row["items"]),
                **{name: row.get(key) for key, name in settings.metrics.items()},
            }
        )
    return shown


def conclusion(settings: FinetuneSettings, rows: list[dict[str, Any]], main_metric: str) -> list[str]:
    """Return a sentence for each method that says what it gains over "none" on the test sets.

    A run has one seed, which proves nothing, and the sentence says so.
    """
    metric = main_metric if main_metric in settings.metrics else next(iter(settings.metrics))
    scores = {(row["method"], row["test_set"]): row.get(metric) for row in rows}
    tests = list(dict.fromkeys(row["test_set"] for row in rows if row["test_set"] != "validation"))
    said = []
    for method in settings.methods:
        gains = {test: _gain(scores.get((method, test)), scores.get(("none", test))) for test in tests}
        shown = [f"{gain:+.1f} on {test}" for test, gain in gains.items() if gain is not None]
        if shown and method != "none":
            first, *rest = shown
            first = first.replace(" on ", f" points of {settings.metrics[metric]} on ", 1)
            gained = ", ".join([first, *rest])
            said.append(f"{method} {gained}, against none (one seed: not conclusive).")
    if "none" not in settings.methods:
        said.append('Nothing is said of gains, because "none" is not among the methods.')
    return said


def _gain(score: float | None, none: float | None) -> float | None:
    return None if score is None or none is None else score - none


def next_commands(settings: FinetuneSettings, known: KnownTask, arguments: Sequence[str]) -> list[str]:
    """Return the commands that decide and that explain: several seeds, and the words that are distilled.

    Args:
        arguments: the task's options as they were typed.
    """
    task = next(name for name, one in TASKS.items() if one is known)
    if settings.data.items is not None:
        labels = ["--items", str(settings.data.items)]
    else:
        labels = ["--fractions", f"{settings.data.fraction or 1:g}"]
    out, own = f"{settings.run_dir}_low_shot", _without(arguments, SET_BY_GRID)
    grid = [
        "--task",
        task,
        *labels,
        "--methods",
        *dict.fromkeys(("none", *settings.methods)),
        "--seeds",
        "0",
        "1",
        "2",
    ]
    grid += ["--out", out, *(["--", *own] if own else [])]
    lines = [f"Next: python scripts/evaluate_low_shot.py {shlex.join(grid)}"]
    distilled = [method for method in settings.methods if settings.method_config(method).distils]
    if distilled:
        method = "targeted" if "targeted" in distilled else distilled[-1]
        own = [*_without(arguments, ("--methods", "--student")), "--student"]
        page = ["--task", task, "--method", method, "--", *own, str(settings.run_dir / method / "student")]
        lines.append(f"      python scripts/inspect_selection.py {shlex.join(page)}")
    return lines


def _without(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return a command line without some flags and their values.

    >>> _without(["--methods", "none", "targeted", "--lr", "1e-3", "--run_dir=x"], ("--methods", "--run-dir"))
    ['--lr', '1e-3']
    """
    kept, dropped = [], False
    for argument in arguments:
        if argument.startswith("--"):
            dropped = argument.split("=")[0].replace("_", "-") in flags
        if not dropped:
            kept.append(argument)
    return kept
