"""The page of a grid: learning curves over the number of labels, gains, tables; Markdown and HTML."""

import html
import io
import sys
from base64 import b64encode
from statistics import mean
from typing import Any

from cliptd.utils.tables import column_names, formatted, markdown_table
from tasks.low_shot.grid import Grid, Outcome, summary

METHODS = {
    "none": "(a) no distillation",
    "naive": "(b) image and sentence embeddings, constant weight",
    "all_words": "(c) and regions and every word",
    "random_words": "(d) as many words at random as (f) keeps",
    "visual_only": "(e) words by visual relevance alone",
    "semantic_only": "(e) words by semantic relevance alone",
    "selected": "(f) selected words",
    "targeted": "(g) and confidence weights",
    "adapted_teacher": "(h) = (g) with a teacher adapted to the labelled items",
    "shuffled_teacher": "control: (g) with other instances' targets",
    "teacher_input": "control: (a) with the teacher's image embedding as an input, also at inference",
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
    ladder = [{"method": method, "what": METHODS[method]} for method in grid.methods]
    command = command or " ".join(["python", *sys.argv])
    note = (
        "Mean ± standard deviation over seeds, in percent. Gain and difference are of "
        f"{metrics[main]}, relative to none with the same seeds; the interval is a paired bootstrap over seeds."
    )
    markdown = [f"# {title}", f"`{command}`", markdown_table(ladder), note, markdown_table(table)]
    page = [
        _heading(1, title),
        f"<pre>{html.escape(command)}</pre>",
        _html_table(ladder),
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
    (grid.out / "report.md").write_text("\n\n".join(markdown) + "\n", encoding="utf-8")
    style = (
        "body{font-family:sans-serif;max-width:70em;margin:2em auto}td,th{padding:.2em .7em;text-align:left}"
    )
    content = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{style}</style>"
    (grid.out / "report.html").write_text(content + "\n".join(page) + "\n", encoding="utf-8")
    return table


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
    axes.set(xlabel="labelled items", ylabel=f"{name}, percent", xscale="log")
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
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table>"
