"""Learning curves of several runs in one image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def plot_learning_curves(
    logs: Mapping[str, Sequence[Row]], path: str | Path, *, metric: str | None, metric_name: str, title: str
) -> Path:
    """Draw the validation metric and the training loss of several runs over their steps.

    Args:
        logs: the rows of log.jsonl ({"step", "loss", "metrics"}) by the run's name, such as the method.
        path: the image to write; its suffix chooses the format.
        metric: the key of the metric. None, or a key that no run has: the loss alone is drawn.
        metric_name: the label of the metric.
        title: the heading of the figure.

    Raises:
        ValueError: a run has no step.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only here, as it is slow to import
    from matplotlib.figure import Figure

    for name, rows in logs.items():
        if not rows:
            raise ValueError(f"the log of {name} has no step, so there is nothing to plot; train it first")
    scores = {
        name: [(row["step"], row["metrics"][metric]) for row in rows if metric in row.get("metrics", {})]
        for name, rows in logs.items()
    }
    evaluated = any(scores.values())
    figure = Figure(figsize=(10 if evaluated else 6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(1, 2 if evaluated else 1, squeeze=False)[0]
    axes[-1].set(xlabel="step", ylabel="training loss (with distillation, if any)")
    for number, (name, rows) in enumerate(logs.items()):
        colour = f"C{number % 10}"
        losses = [row["loss"] for row in rows]
        axes[-1].plot([row["step"] for row in rows], losses, color=colour, alpha=0.7, label=name)
        if scores[name]:
            axes[0].plot(*zip(*scores[name], strict=True), marker="o", color=colour, label=name)
    if evaluated:
        axes[0].set(xlabel="step", ylabel=f"{metric_name} on validation")
    axes[0].legend()
    figure.savefig(path, dpi=120)
    return Path(path)
