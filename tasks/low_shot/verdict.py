"""Say in words what a grid shows, and what it does not."""

from statistics import mean
from typing import Any

from tasks.low_shot.grid import Grid, Outcome
from tasks.low_shot.paired_bootstrap import paired_bootstrap

ENOUGH = 3
"""Seeds below which an interval over seeds says nothing."""


def verdict(grid: Grid, outcome: Outcome, *, main: str, name: str) -> list[str]:
    """Return a sentence for each number of labels, on the first test set.

    It names the best method, its lead over none and over the next method, and whether the seeds decide: a difference
    is conclusive if its 95 % paired bootstrap interval over at least three shared seeds does not hold 0.

    Args:
        main: the key of the rows that is compared. name: what people call it.
    """
    if not outcome.test_sets:
        return ["No test set was scored."]
    test_set = outcome.test_sets[0]
    rows = [row for row in outcome.rows if row["test_set"] == test_set and row.get(main) is not None]
    said = []
    for count in dict.fromkeys(row["labelled"] for row in rows):
        of = {
            method: {
                row["seed"]: row[main] for row in rows if (row["method"], row["labelled"]) == (method, count)
            }
            for method in grid.methods
        }
        ranked = sorted((m for m in of if of[m]), key=lambda m: -mean(of[m].values()))
        best = ranked[0]
        text = f"{count:,} labels, {test_set}: {best} is the best with {mean(of[best].values()):.1f} % {name}"
        rivals = list(dict.fromkeys([m for m in ("none", *ranked[1:2]) if of.get(m) and m != best]))
        leads = [f"over {rival} {_lead(of[best], of[rival])}" for rival in rivals]
        said.append(f"{text}; {', '.join(leads)}." if leads else f"{text}.")
    return said


def _lead(ours: dict[int, Any], theirs: dict[int, Any]) -> str:
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < ENOUGH:
        points = mean(ours.values()) - mean(theirs.values())
        return f"{points:+.1f} points ({len(shared)} shared seeds: not conclusive)"
    found = paired_bootstrap([ours[s] for s in shared], [theirs[s] for s in shared])
    sure = "" if found.low > 0 or found.high < 0 else ": not conclusive"
    return f"{found.mean:+.1f} points [{found.low:+.1f}, {found.high:+.1f}] over {len(shared)} seeds{sure}"
