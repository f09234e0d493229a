"""The report of a grid, in Markdown, HTML and JSON: a verdict, curves, tables, costs, settings."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptd.targeted.config import Method
from cliptd.utils.files import write_atomically
from cliptd.utils.tables import markdown_table
from cliptd.utils.versions import library_versions
from tasks import page
from tasks.known_tasks import KnownTask
from tasks.low_shot import costs
from tasks.low_shot.curves import curves
from tasks.low_shot.grid import Grid, Outcome
from tasks.low_shot.kept_settings import kept_settings
from tasks.low_shot.summary import summary
from tasks.low_shot.verdict import verdict

METHODS: dict[Method, str] = {
    "none": "fine-tuning on the labelled items alone, without a teacher",
    "naive": "distils the teacher's embeddings of the image and of the sentences, all instances alike",
    "all_words": "distils image and sentences, and the boxes and every word",
    "random_words": "distils image, sentences, boxes, and as many words as selected keeps, drawn at random",
    "visual_only": "distils image, sentences, boxes, and the words that are seen in the image",
    "semantic_only": "distils image, sentences, boxes, and the words that matter to the sentence",
    "selected": "distils image, sentences, boxes, and the words that are seen in the image and matter to the sentence",
    "targeted": "distils image, sentences, boxes, and the words that are seen in the image and matter to the sentence; "
    "instances that the teacher knows and the student does not count more (CLIP-TD)",
    "adapted_teacher": "targeted, with a teacher that was first fine-tuned on the labelled items",
    "shuffled_teacher": "control that must not help: targeted, with the targets of other instances",
    "teacher_input": "control: no distillation, but the student reads the teacher's image embedding, also at inference",
}
NOTE = (
    "Mean ± standard deviation over seeds, in percent. Gain and difference are of {name}, relative to none with the "
    "same seeds. The interval, of three seeds or more, is a 95 % paired bootstrap over seeds."
)


def write_report(
    grid: Grid,
    outcome: Outcome,
    metrics: Mapping[str, str],
    *,
    known: KnownTask,
    title: str,
    command: str | None = None,
) -> tuple[list[str], list[dict[str, Any]]]:
    """Write report.html, report.md, results.json and the curves into the grid's folder.

    Args:
        metrics: keys of the rows and what people call them.
        known: the task.
        command: the command line that made the grid; None: this process's.

    Returns:
        The sentences of the verdict, and the rows of the table.
    """
    main = (
        known.main_metric if known.main_metric in metrics else next(iter(metrics))
    )  # VCR's subtasks have no Q→AR
    table = summary(grid, outcome, metrics, main=main)
    said = verdict(grid, outcome, main=main, name=metrics[main])
    facts = {
        "title": title,
        "verdict": said,
        "table": table,
        "teacher": {"about": known.about_teacher_score, "rows": outcome.teacher},
        "learning_rates": outcome.rates,
        "tuning": outcome.tuning,
        "diverged": outcome.diverged,
        "cost": costs.costs(grid),
        "environments": costs.environments(grid),
        "grid": dataclasses.asdict(grid),
        "settings": kept_settings(grid.out),
        "command": command or " ".join(["python", *sys.argv]),
        "versions": library_versions(),
    }
    _write_unless_same(grid.out / "results.json", json.dumps(facts, indent=2, default=str) + "\n")
    pictures = {name: curves(grid, outcome, name, main, metrics[main]) for name in outcome.test_sets}
    for name, png in pictures.items():
        write_atomically(grid.out / _curve_file(name), png)
    note = NOTE.format(name=metrics[main])
    write_atomically(grid.out / "report.html", _html(grid, facts, pictures, note))
    write_atomically(grid.out / "report.md", _markdown(grid, facts, pictures, note))
    return said, table


def _html(grid: Grid, facts: dict[str, Any], pictures: Mapping[str, bytes], note: str) -> str:
    parts = [page.heading(2, "Verdict"), page.bullets(facts["verdict"], "verdict")]
    parts += [page.heading(2, "Methods"), page.table(_methods(grid))]
    for test_set, png in pictures.items():
        parts += [page.heading(2, f"Test set {test_set}"), page.picture(png, f"curves of {test_set}")]
        rows = [row for row in facts["table"] if row["test set"] == test_set]
        parts.append(page.table([{k: v for k, v in row.items() if k != "test set"} for row in rows]))
    parts += [page.paragraph(text) for text in _notes(facts, note)]
    if facts["tuning"]:
        parts += [page.heading(2, _tuned_at(grid)), page.table(facts["tuning"])]
    if facts["cost"]:
        parts += [page.heading(2, "Time and memory"), page.table(facts["cost"]), page.paragraph(costs.ABOUT)]
        parts += [page.paragraph(text) for text in _machines(facts)]
    parts += [
        page.heading(2, "Settings"),
        page.code(facts["command"]),
        page.table(_grid_rows(grid, facts)),
        page.folded("All settings that the runs share", page.code(json.dumps(facts["settings"], indent=2))),
    ]
    return page.page(facts["title"], parts)


def _markdown(grid: Grid, facts: dict[str, Any], pictures: Mapping[str, bytes], note: str) -> str:
    said = "\n".join(f"- {sentence}" for sentence in facts["verdict"])
    parts = [f"# {facts['title']}", said, "## Methods", markdown_table(_methods(grid)), "## Results"]
    if facts["table"]:
        parts.append(markdown_table(facts["table"]))
    parts += [f"![curves of {name}]({_curve_file(name)})" for name in pictures]
    parts += _notes(facts, note)
    if facts["tuning"]:
        parts += [f"## {_tuned_at(grid)}", markdown_table(facts["tuning"])]
    if facts["cost"]:
        parts += ["## Time and memory", markdown_table(facts["cost"]), costs.ABOUT, *_machines(facts)]
    parts += ["## Settings", f"`{facts['command']}`", markdown_table(_grid_rows(grid, facts))]
    parts.append(f"```json\n{json.dumps(facts['settings'], indent=2)}\n```")
    return "\n\n".join(parts) + "\n"


def _curve_file(test_set: str) -> str:
    return f"curve_{test_set}.png".replace(" ", "_")


def _methods(grid: Grid) -> list[dict[str, Any]]:
    return [{"method": method, "what it is": METHODS[method]} for method in grid.methods]


def _notes(facts: dict[str, Any], note: str) -> list[str]:
    """Return what a reader of the tables must know."""
    notes = [note, facts["teacher"]["about"]]
    items = {row["test_set"]: row["items"] for row in facts["teacher"]["rows"]}
    if items:
        counted = ", ".join(f"{count:,} of {name}" for name, count in items.items())
        notes[-1] += f" It was asked about the first items of each test set: {counted}."
    if facts["diverged"]:
        lost = "; ".join(facts["diverged"])
        notes.append(f"{len(facts['diverged'])} runs diverged and are in no mean: {lost}")
    return notes


def _machines(facts: dict[str, Any]) -> list[str]:
    texts = []
    for found in facts["environments"]:
        hardware = found["hardware"]
        gpus = f", {', '.join(hardware['gpus'])}" if hardware["gpus"] else ", no GPU"
        versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
        texts.append(
            f"{found['cells']} cells on {hardware['platform']}, {hardware['cores']} cores, "
            f"{hardware['threads']} threads a process{gpus}; {versions}."
        )
    return texts


def _tuned_at(grid: Grid) -> str:
    labels = grid.labels[grid.tuned_at]
    return (
        f"Tuning: validation at {f'{labels:,} labels' if grid.items else f'{100 * labels:g} % of the labels'}"
    )


def _grid_rows(grid: Grid, facts: dict[str, Any]) -> list[dict[str, Any]]:
    rates = ", ".join(f"{method} {rate:g}" for method, rate in facts["learning_rates"].items())
    steps = ", ".join(map(str, grid.steps_at)) or facts["settings"].get("training", {}).get(
        "steps", "the task's"
    )
    shown = {
        "folder": str(grid.out),
        "labels": ", ".join(map(str, grid.labels)),
        "steps": steps,
        "seeds": ", ".join(map(str, grid.seeds)),
        "learning rates": rates,
    }
    return [{"setting": name, "value": str(value)} for name, value in shown.items()]


def _write_unless_same(path: Path, content: str) -> None:
    """Write a file unless it holds the content already: a finished grid leaves its files as they are."""
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        write_atomically(path, content)
