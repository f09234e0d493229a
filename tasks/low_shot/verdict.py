"""Say in words what a grid shows, and what it does not."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from tasks.low_shot.grid import Grid, Outcome
from tasks.low_shot.paired_bootstrap import ENOUGH_SEEDS, paired_bootstrap

CONTROLS = ("shuffled_teacher", "teacher_input")


def verdict(grid: Grid, outcome: Outcome, *, main: str, name: str) -> list[str]:
    """Return a sentence for each number of labels, on the first test set, and one for all of them before.

    A sentence names the best method, its lead over none and over the next method, and whether the seeds decide: a
    difference is conclusive if its 95 % paired bootstrap interval over at least three shared seeds does not hold 0.

    Args:
        main: the key of the rows that is compared. name: what people call it.
    """
    if not outcome.test_sets:
        return ["No test set was scored."]
    test_set = outcome.test_sets[0]
    rows = [row for row in outcome.rows if row["test_set"] == test_set and row.get(main) is not None]
    said: list[str] = []
    best_at: dict[int, str] = {}
    sure_at: list[int] = []
    for count in dict.fromkeys(row["labelled"] for row in rows):
        of = {
            method: {
                row["seed"]: row[main] for row in rows if (row["method"], row["labelled"]) == (method, count)
            }
            for method in grid.methods
        }
        ranked = sorted((m for m in of if of[m]), key=lambda m: -mean(of[m].values()))
        best = best_at[count] = ranked[0]
        control = " (a control)" if best in CONTROLS else ""
        text = f"{count:,} labels, {test_set}: {best}{control} is the best with {mean(of[best].values()):.1f} % {name}"
        rivals = list(dict.fromkeys([m for m in ("none", *ranked[1:2]) if of.get(m) and m != best]))
        leads = [_lead(rival, of[best], of[rival]) for rival in rivals]
        if best != "none" and of.get("none") and _is_conclusive(of[best], of["none"]):
            sure_at.append(count)
        said.append(f"{text}: {', '.join(leads)}." if leads else f"{text}.")
    return [_overall(best_at, sure_at), *said] if len(said) > 1 else said


def _overall(best_at: Mapping[int, str], sure_at: Sequence[int]) -> str:
    best = list(dict.fromkeys(best_at.values()))
    if best == ["none"]:
        return "No method beats none at any number of labels."
    who = (
        f"{best[0]} is the best at every number of labels"
        if len(best) == 1
        else "no method is the best everywhere"
    )
    if not sure_at:
        return f"{who[0].upper()}{who[1:]}; no lead over none is conclusive."
    if len(sure_at) == len(best_at):
        where = "everywhere"
    else:
        where = "at " + ", ".join(f"{count:,}" for count in sure_at) + " labels"
    return f"{who[0].upper()}{who[1:]}; the lead over none is conclusive {where}."


def _lead(rival: str, ours: dict[int, Any], theirs: dict[int, Any]) -> str:
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        points = mean(ours.values()) - mean(theirs.values())
        return f"{points:+.1f} points over {rival} (no shared seed: not conclusive)"
    found = paired_bootstrap([ours[s] for s in shared], [theirs[s] for s in shared])
    if len(shared) < ENOUGH_SEEDS:
        seeds = "one seed" if len(shared) == 1 else f"{len(shared)} seeds"
        return f"{found.mean:+.1f} points over {rival} ({seeds}: not conclusive)"
    sure = "" if _is_conclusive(ours, theirs) else ": not conclusive"
    interval = f"95 % interval {found.low:+.1f} to {found.high:+.1f}, {len(shared)} seeds"
    return f"{found.mean:+.1f} points over {rival} ({interval}{sure})"


def _is_conclusive(ours: dict[int, Any], theirs: dict[int, Any]) -> bool:
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < ENOUGH_SEEDS:
        return False
    found = paired_bootstrap([ours[s] for s in shared], [theirs[s] for s in shared])
    return found.low > 0 or found.high < 0
