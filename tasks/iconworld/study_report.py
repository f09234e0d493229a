"""The table and the curves of a study of dual encoders."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from tasks.low_shot.summary import mean_and_spread


@dataclass(frozen=True)
class Way:
    """A way to train a student, which is a line of the table.

    Attributes:
        name: its name in the table.
        what: its description for the reader.
        goal: the name of the way whose best validation accuracy it is timed to.
        panel: the title of the panel that its curve is drawn in.
    """

    name: str
    what: str
    goal: str
    panel: str = ""


def line_of(way: Way, results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a way's line: mean ± standard deviation over seeds, and the pairs to the best accuracy of its goal."""
    found, of_goal = results[way.name], _mean_curve(results[way.goal])
    goal = max(accuracy for _, accuracy in of_goal)
    needed = next(pairs for pairs, accuracy in of_goal if accuracy == goal)
    reached = [pairs for pairs, accuracy in _mean_curve(found) if accuracy >= goal]
    return {
        "way": way.name,
        "parameters": round(mean(result["parameters"] for result in found)),
        **{
            name: mean_and_spread([result[name] for result in found])
            for name in found[0]
            if name not in ("way", "lr", "seed", "steps", "curve", "parameters")
        },
        f"pairs to the best of {way.goal.split()[0]}": reached[0] if reached else "not reached",
        "times fewer": f"{needed / reached[0]:.1f}" if reached else None,
    }


def _mean_curve(results: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return (pairs seen, mean accuracy over seeds)."""
    points = zip(*(result["curve"] for result in results), strict=True)
    return [(of_seeds[0][0], mean(accuracy for _, accuracy in of_seeds)) for of_seeds in points]


def curves_image(ways: Sequence[Way], results: dict[str, list[dict[str, Any]]]) -> bytes:
    """Return a PNG of validation accuracy over pairs seen: a line a way, its range over seeds shaded."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and a plot alone needs it
    from matplotlib.figure import Figure

    titles = list(dict.fromkeys(way.panel for way in ways))
    figure = Figure(figsize=(max(6, 5 * len(titles)), 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = dict(zip(titles, figure.subplots(1, len(titles), sharey=True, squeeze=False)[0], strict=True))
    colors: dict[str, str] = {}
    for way in ways:
        found, panel = results[way.name], panels[way.panel]
        pairs, accuracy = zip(*_mean_curve(found), strict=True)
        color = colors.setdefault(way.name.rstrip("0123456789. "), f"C{len(colors)}")  # of all sizes
        panel.plot(pairs, accuracy, color=color, label=way.name)
        seeds = list(zip(*([a for _, a in result["curve"]] for result in found), strict=True))
        low, high = [min(point) for point in seeds], [max(point) for point in seeds]
        panel.fill_between(pairs, low, high, color=color, alpha=0.2, linewidth=0)
    for title, panel in panels.items():
        panel.set(xlabel="pairs seen", title=title)
        panel.legend()
    panels[titles[0]].set_ylabel("zero-shot top-1 on validation, percent")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
