"""The results of evaluations as files, for programs (results.json) and for people (results.md)."""

import json
from pathlib import Path
from typing import Any

from cliptd.evaluation.retrieval import RECALLS
from cliptd.utils.files import write_atomically
from cliptd.utils.tables import Row, markdown_table

COLUMNS = {
    "zero_shot": {
        "name": "data set", "images": "images", "top1": "top-1", "top5": "top-5", "mean_per_class": "mean per class",
    },
    "retrieval": {
        "name": "data set", "images": "images", "texts": "texts",
        **{f"image_to_text_r{k}": f"image→text R@{k}" for k in RECALLS},
        **{f"text_to_image_r{k}": f"text→image R@{k}" for k in RECALLS},
    },
    "linear_probe": {
        "name": "data set", "images": "images", "top1": "top-1", "mean_per_class": "mean per class",
        "validation_top1": "validation top-1", "lambda": "λ",
    },
    "suite": {
        "name": "data set", "shifted_from": "shifted from", "images": "images", "metric": "metric",
        "zero_shot": "zero-shot", "zero_shot_drop": "drop", "linear_probe": "linear probe",
        "linear_probe_drop": "drop of the probe",
    },
}  # fmt: skip
"""For each evaluation the parts of a result that a table shows, and their headings."""
TITLES = {
    "zero_shot": "Zero-shot classification",
    "retrieval": "Retrieval",
    "linear_probe": "Linear probe",
    "suite": "Suite",
}


def table_rows(evaluation: str, results: list[dict[str, Any]]) -> list[Row]:
    """Return an evaluation's results as the rows of a table, one per data set.

    Columns without a value are missing. Skipped images are counted only if there are any.
    """
    columns = COLUMNS[evaluation]
    shown = [name for name in columns if any(name in result for result in results)]
    rows = [{columns[name]: result.get(name) for name in shown} for result in results]
    for row, result in zip(rows, results, strict=True):
        if "lambda" in result:
            row["λ"] = f"{result['lambda']:.3g}"
        if result.get("skipped"):
            row["skipped"] = len(result["skipped"])
    return rows


def write_results(folder: str | Path, results: dict[str, Any]) -> None:
    """Write results.json and results.md into a folder. Each file appears complete or not at all.

    Args:
        folder: is created if it does not exist.
        results: {"model", …, "zero_shot": [a result with its "name", …], "retrieval": […], "linear_probe": […],
            "suite": […]}, in percent. An evaluation may be missing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {results['model']}", "In percent."]
    for evaluation, title in TITLES.items():
        if results.get(evaluation):
            parts += [f"## {title}", markdown_table(table_rows(evaluation, results[evaluation]))]
    write_atomically(folder / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / "results.md", "\n\n".join(parts) + "\n")
