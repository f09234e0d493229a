"""The learning curves of a grid: a metric over the number of labels."""

import io
from statistics import mean

from tasks.low_shot.grid import Grid, Outcome

TEACHER = "the teacher itself"


def curves(grid: Grid, outcome: Outcome, test_set: str, key: str, name: str) -> bytes:
    """Return a PNG: a line a method through the means, a point a seed, and the teacher's own score if there is one.

    Args:
        key: of the rows, on the vertical axis. name: what people call it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and a plot alone needs it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4), layout="constrained")  # small: its letters stay legible on a phone
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, method in enumerate(grid.methods):
        rows = [r for r in outcome.rows if (r["test_set"], r["method"]) == (test_set, method) and key in r]
        counts = sorted({row["labelled"] for row in rows})
        means = [mean([row[key] for row in rows if row["labelled"] == count]) for count in counts]
        axes.plot(counts, means, color=f"C{number}", label=method)
        axes.scatter([row["labelled"] for row in rows], [row[key] for row in rows], color=f"C{number}", s=12)
    for row in outcome.teacher:
        if row["test_set"] == test_set and key in row:
            axes.axhline(row[key], color="gray", linestyle="--", linewidth=1, label=TEACHER)
    counts = sorted({row["labelled"] for row in outcome.rows})
    axes.set(title=test_set, xlabel="labelled items", ylabel=f"{name}, percent", xscale="log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])  # the numbers themselves, not powers of ten
    axes.set_xticks([], minor=True)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=200)
    return file.getvalue()
