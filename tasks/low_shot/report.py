"""The page of a grid, in Markdown and HTML: a verdict, curves over the number of labels, tables, cost, settings."""

import html
import io
import json
import sys
from base64 import b64encode
from statistics import mean
from typing import Any

from cliptd.utils.tables import column_names, formatted, markdown_table
from cliptd.utils.versions import library_versions
from tasks.low_shot.grid import Grid, Outcome, summary
from tasks.low_shot.verdict import verdict

STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:1em auto;padding:0 .7em;line-height:1.4}"
    "td,th{padding:.2em .7em;text-align:left}img{max-width:100%;height:auto}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere}"
    ".wide{overflow-x:auto}.verdict{font-size:1.15em;font-weight:bold}"
)
METHODS = {
    "none": "fine-tuning without a teacher",
    "naive": "the teacher's embeddings of the image and of the sentences, all instances alike",
    "all_words": "naive, and the boxes and every word",
    "random_words": "naive, and the boxes and as many words as selected keeps, drawn at random",
    "visual_only": "naive, and the boxes and the words that are seen in the image",
    "semantic_only": "naive, and the boxes and the words that matter to the sentence",
    "selected": "naive, and the boxes and the words that are seen in the image and matter to the sentence",
    "targeted": "selected, with more weight where the teacher knows and the student does not (CLIP-TD)",
    "adapted_teacher": "targeted, with a teacher that was first fine-tuned on the labelled items",
    "shuffled_teacher": "control that must not help: targeted, with the targets of other instances",
    "teacher_input": "control: no distillation, but the student reads the teacher's image embedding, also at inference",
}


def write_report(
    grid: Grid,
    outcome: Outcome,
    metrics: dict[str, str],
    *,
    main: str,
    title: str,
    command: str | None = None,
) -> list[dict[str, Any]]:
    """Write report.md and report.html into the grid's folder; returns the table's rows.

    metrics, main: as for `summary`. command: what made it; None: this process's command line.
    """
    main = main if main in metrics else next(iter(metrics))  # a grid of one of VCR's two subtasks has no Q→AR
    table = summary(grid, outcome, metrics, main=main)
    methods = [{"method": method, "what it is": METHODS[method]} for method in grid.methods]
    said = verdict(grid, outcome, main=main, name=metrics[main])
    command = command or " ".join(["python", *sys.argv])
    note = (
        "Mean ± standard deviation over seeds, in percent. Gain and difference are of "
        f"{metrics[main]}, relative to none with the same seeds. The interval, of three seeds or more, is a "
        "paired bootstrap over seeds."
    )
    markdown = [f"# {title}", *said, markdown_table(methods), note, markdown_table(table)]
    page = [
        _heading(1, title),
        *(f"<p class=verdict>{html.escape(sentence)}</p>" for sentence in said),
        _html_table(methods),
        f"<p>{html.escape(note)}</p>",
    ]
    if outcome.diverged:
        lost = f"{len(outcome.diverged)} runs diverged and are in no mean: {'; '.join(outcome.diverged)}"
        markdown.append(lost)
        page.append(f"<p>{html.escape(lost)}</p>")
    if outcome.tuning:
        at = f"Tuning, validation at {grid.labels[grid.tuned_at]:g} labels"
        markdown += [f"## {at}", markdown_table(outcome.tuning)]
        page += [_heading(2, at), _html_table(outcome.tuning)]
    for test_set in outcome.test_sets:
        name = f"curve_{test_set}.png"
        picture = _curve(grid, outcome, test_set, main, metrics[main])
        (grid.out / name).write_bytes(picture)
        source = f"data:image/png;base64,{b64encode(picture).decode()}"
        page += [_heading(2, test_set), f'<img alt="{html.escape(test_set)}" src="{source}">']
        page.append(_html_table([row for row in table if row["test set"] == test_set]))
    cost = _cost(grid)
    if cost:
        markdown += ["## Cost, of runs that were trained in one go", markdown_table(cost, digits=1)]
        page += [_heading(2, "Cost, of runs that were trained in one go"), _html_table(cost)]
    settings = _settings(grid)
    versions = ", ".join(f"{package} {version}" for package, version in library_versions().items())
    markdown += ["## Settings", f"`{command}`", versions, f"```json\n{settings}\n```"]
    page += [
        _heading(2, "Settings"),
        f"<pre>{html.escape(command)}</pre><p>{html.escape(versions)}</p>",
        f"<details><summary>All settings that the runs share</summary><pre>{html.escape(settings)}</pre></details>",
    ]
    (grid.out / "report.md").write_text("\n\n".join(markdown) + "\n", encoding="utf-8")
    head = (
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    (grid.out / "report.html").write_text(head + "\n".join(page) + "\n", encoding="utf-8")
    return table


def _settings(grid: Grid) -> str:
    """Return what all cells share, as `run_grid` wrote it; "{}" for a grid whose folder has no such file."""
    path = grid.out / "settings.json"
    return path.read_text(encoding="utf-8").strip() if path.exists() else "{}"


def _cost(grid: Grid) -> list[dict[str, Any]]:
    """Return the mean minutes of a run and its largest memory for each method, out of the cells' results.json."""
    minutes: dict[str, list[float]] = {method: [] for method in grid.methods}
    memory: dict[str, list[float]] = {method: [] for method in grid.methods}
    for path in sorted((grid.out / "cells").glob("*/results.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for method, seconds in found.get("seconds", {}).items():
            if method in minutes:
                minutes[method].append(seconds / 60)
                memory[method].append(found["peak_memory"]["process_bytes"] / 2**30)
    return [
        {
            "method": method,
            "runs": len(minutes[method]),
            "minutes a run": mean(minutes[method]),
            "largest memory of a process, GiB": max(memory[method]),
        }
        for method in grid.methods
        if minutes[method]
    ]


def _curve(grid: Grid, outcome: Outcome, test_set: str, key: str, name: str) -> bytes:
    """A picture: the main metric over the number of labels, a line a method, a point a seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a plot only: keep it out of every import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, method in enumerate(grid.methods):
        rows = [r for r in outcome.rows if (r["test_set"], r["method"]) == (test_set, method)]
        counts = sorted({row["labelled"] for row in rows})
        means = [mean([row[key] for row in rows if row["labelled"] == count]) for count in counts]
        axes.plot(counts, means, color=f"C{number}", label=method)
        axes.scatter([row["labelled"] for row in rows], [row[key] for row in rows], color=f"C{number}", s=12)
    counts = sorted({row["labelled"] for row in outcome.rows})
    axes.set(xlabel="labelled items", ylabel=f"{name}, percent", xscale="log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])  # the numbers themselves, not powers of ten
    axes.set_xticks([], minor=True)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def _heading(level: int, text: str) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>"


def _html_table(rows: list[dict[str, Any]]) -> str:
    names = column_names(rows)
    lines = [("th", names), *(("td", [formatted(row.get(name)) for name in names]) for row in rows)]
    cells = ["".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) for tag, texts in lines]
    return f"<div class=wide><table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table></div>"
