"""The end of a run: its table, its learning curves, and what came of it in words."""

import shlex
import sys
from typing import Any

from cliptd.data.identity import wherever
from cliptd.training import read_log
from cliptd.utils.learning_curves import plot_learning_curves
from cliptd.utils.tables import markdown_table, print_table
from tasks.command_line import as_started
from tasks.known_tasks import KnownTask
from tasks.settings import FinetuneSettings

TERMS = {
    "image_weight": "image",
    "region_weight": "boxes",
    "word_weight": "words",
    "text_weight": "sentences",
}


def report(settings: FinetuneSettings, rows: list[dict[str, Any]], known: KnownTask) -> None:
    """Write report.md and learning_curves.png into the run folder, and say what came of the run."""
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
    (settings.run_dir / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    say(settings, rows, known)


def say(settings: FinetuneSettings, rows: list[dict[str, Any]], known: KnownTask) -> None:
    """Print the table, the conclusion, the run folder and the next commands."""
    print_table(table_rows(settings, rows), title=_title(settings, rows))
    for line in conclusion(settings, rows, known.main_metric):
        print(line)
    print(f"Run folder: {settings.run_dir.resolve()}")
    for line in next_commands(settings):
        print(as_started(line))


def _title(settings: FinetuneSettings, rows: list[dict[str, Any]]) -> str:
    student, teacher = wherever(settings.student), wherever(settings.teacher)
    return (
        f"{settings.task} in percent: student {student}, teacher {teacher}, {rows[0]['labelled']} labelled items, "
        f"seed {settings.seed}"
    )


def table_rows(settings: FinetuneSettings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return result rows as people read them."""
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
    """Say for every method and test set what it gains over "none"; one seed proves nothing, and the text says so."""
    metric = main_metric if main_metric in settings.metrics else next(iter(settings.metrics))
    name = settings.metrics[metric]
    scores = {(row["method"], row["test_set"]): row.get(metric) for row in rows}
    tests = list(dict.fromkeys(row["test_set"] for row in rows if row["test_set"] != "validation"))
    said = []
    for method in settings.methods:
        gains = [
            f"{scores[method, test] - scores['none', test]:+.1f} on {test}"
            for test in tests
            if method != "none" and None not in (scores.get((method, test)), scores.get(("none", test)))
        ]
        if gains:
            said.append(
                f"{method} against none, points of {name}: {', '.join(gains)} (one seed: not conclusive)."
            )
    return said


def next_commands(settings: FinetuneSettings) -> list[str]:
    """Return the commands that decide and that explain: several seeds, and the words that are distilled."""
    task = {"VCR": "vcr", "VQA": "vqa", "SNLI-VE": "snli_ve"}[settings.task]
    own = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if settings.data.items is not None:
        labels = f"--items {settings.data.items}"
    else:
        labels = f"--fractions {settings.data.fraction or 1:g}"
    out = shlex.quote(f"{settings.run_dir}_low_shot")
    grid = f"python scripts/evaluate_low_shot.py --task {task} {labels} --seeds 0 1 2 --out {out}"
    lines = [f"Next: {shlex.join([*grid.split(), '--', *own]) if own else grid}"]
    distilled = [method for method in settings.methods if settings.method_config(method).distils]
    if distilled:
        given = shlex.join([*own, "--student", str(settings.run_dir / distilled[-1] / "student")])
        lines.append(f"      python scripts/inspect_selection.py --task {task} -- {given}")
    return lines
