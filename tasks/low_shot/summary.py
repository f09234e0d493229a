"""The table of a grid: mean and spread over seeds, gains over the method none."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from tasks.low_shot.grid import Grid, Outcome
from tasks.low_shot.paired_bootstrap import ENOUGH_SEEDS, paired_bootstrap


def summary(grid: Grid, outcome: Outcome, metrics: Mapping[str, str], *, main: str) -> list[dict[str, Any]]:
    """Return a line for each test set, number of labels and method, with mean ± standard deviation over seeds.

    Of the main metric a line also holds the gain over "none" with the same seeds, relative to none's mean in percent,
    and the difference. With three seeds or more the difference has its 95 % paired bootstrap interval. If the teacher
    itself was scored, it is the last line of each test set.

    Args:
        metrics: keys of the rows and what people call them.
        main: the key that gains are computed of.
    """
    lines = []
    counts = list(dict.fromkeys(row["labelled"] for row in outcome.rows))
    for test_set in outcome.test_sets:
        for count in counts:
            of = {
                method: {
                    row["seed"]: row
                    for row in outcome.rows
                    if (row["test_set"], row["labelled"], row["method"]) == (test_set, count, method)
                }
                for method in grid.methods
            }
            for method in grid.methods:
                rows = list(of[method].values())
                if not rows:
                    continue
                line = {"test set": test_set, "labelled": count, "method": method, "seeds": len(rows)}
                for key, name in metrics.items():
                    line[name] = mean_and_spread([row[key] for row in rows if key in row])
                shared = [seed for seed in of[method] if seed in of.get("none", {})]
                if shared and method != "none":
                    ours, none = ([of[m][seed][main] for seed in shared] for m in (method, "none"))
                    found = paired_bootstrap(ours, none)
                    line["gain"] = f"{100 * found.mean / mean(none):+.0f} %" if mean(none) else None
                    sure = len(shared) >= ENOUGH_SEEDS
                    interval = f" [{found.low:+.1f}, {found.high:+.1f}]" if sure else ""
                    line["difference [95 %]"] = f"{found.mean:+.1f}{interval}"
                lines.append(line)
        for row in outcome.teacher:
            if row["test_set"] == test_set:
                scores = {name: f"{row[key]:.1f}" for key, name in metrics.items() if key in row}
                lines.append({"test set": test_set, "method": "the teacher itself", **scores})
    return lines


def mean_and_spread(values: Sequence[float]) -> str | None:
    """Return mean ± standard deviation with one digit, the mean alone of one value, None of no value.

    >>> mean_and_spread([1.0, 2.0, 3.0])
    '2.0 ± 1.0'
    """
    if not values:
        return None
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"
