"""The time and the memory of a grid's cells, and the machines that they ran on."""

import json
from statistics import mean
from typing import Any

from tasks.low_shot.cells import RESUMED
from tasks.low_shot.grid import Grid

ABOUT = (
    "Means over runs that were not interrupted. Memory is the least that a process had used at the end of such a run. "
    "A process trains several cells, so it is an upper bound."
)


def costs(grid: Grid) -> list[dict[str, Any]]:
    """Return a row a method: runs, minutes a run, memory in GiB; empty if no cell says what it took."""
    rows = []
    for method in grid.methods:
        found = [cell for cell in _cells(grid) if method in cell.get("seconds", {})]
        if not found:
            continue
        memory = [cell["peak_memory"] for cell in found]
        row = {
            "method": method,
            "runs": len(found),
            "minutes a run": mean(cell["seconds"][method] / 60 for cell in found),
            "memory, GiB": min(one["process_bytes"] for one in memory) / 2**30,
        }
        gpu = [one["gpu_bytes"] for one in memory if "gpu_bytes" in one]
        if gpu:
            row["GPU memory, GiB"] = min(gpu) / 2**30
        rows.append(row)
    return rows


def environments(grid: Grid) -> list[dict[str, Any]]:
    """Return the versions and the hardware that the cells note, each combination once, with its number of cells."""
    seen: dict[str, int] = {}
    for cell in _cells(grid, interrupted=True):
        if "hardware" in cell:
            own = json.dumps({"versions": cell["versions"], "hardware": cell["hardware"]}, sort_keys=True)
            seen[own] = seen.get(own, 0) + 1
    return [{**json.loads(own), "cells": count} for own, count in seen.items()]


def _cells(grid: Grid, *, interrupted: bool = False) -> list[dict[str, Any]]:
    """Return the contents of the cells' results.json."""
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((grid.out / "cells").glob("*/results.json"))
        if interrupted or not (path.parent / RESUMED).exists()
    ]
