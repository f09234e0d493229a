"""The end of a run of distill_embeddings.py: its table, what came of it in words, and the next commands."""

import shlex
from typing import Any

from cliptd.utils.tables import print_table
from tasks.command_line import as_started
from tasks.embeddings.settings import DistillEmbeddings

METRIC_NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean of classes",
    "top1, unseen families": "top-1, unseen families",
}
"""What tables and the progress bar call a metric; others are only in results.json."""


def say(asked: DistillEmbeddings, rows: list[dict[str, Any]]) -> None:
    """Print the table, the conclusion, the model's folder and the next commands."""
    print_table(table_rows(rows), title="zero-shot, in percent", digits=1)
    print(conclusion(rows))
    model = asked.run_dir / "model"
    print(f"Model: {model.resolve()}")
    folder = shlex.quote(str(model))
    images = shlex.quote(str(asked.zero_shot)) if asked.zero_shot else "FOLDER"
    onnx = shlex.quote(str(asked.run_dir / "onnx"))
    print(as_started(f"Next: python scripts/evaluate_clip.py --model {folder} --zero-shot {images}"))
    print(as_started(f"      python scripts/export.py --model {folder} --out {onnx}"))


def table_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return result rows as people read them."""
    names = {**METRIC_NAMES, "best_step": "best step"}
    found = [key for key in names if any(row.get(key) is not None for row in rows)]
    return [
        {
            "model": row["model"],
            "million parameters": row["parameters"] / 1e6,
            **{names[key]: row.get(key) for key in found},
        }
        for row in rows
    ]


def conclusion(rows: list[dict[str, Any]]) -> str:
    """Say in one sentence how the student, the last row, compares with the teacher, the first if there is one.

    >>> teacher = {"model": "teacher big", "parameters": 200, "top1": 98.24}
    >>> conclusion([teacher, {"model": "0.5 of big", "parameters": 99, "top1": 95.0}])
    "0.5 of big reaches 95.0 of its teacher's 98.2 % top-1 zero-shot with 50 % of its parameters (one seed)."
    """
    student = rows[-1]
    if student.get("top1") is None:
        return "No zero-shot data were given, so nothing was scored; --zero-shot FOLDER scores the steps."
    seed = "(one seed)"
    if len(rows) < 2 or rows[0].get("top1") is None:
        return f"{student['model']} reaches {student['top1']:.1f} % top-1 zero-shot {seed}."
    teacher = rows[0]
    return (
        f"{student['model']} reaches {student['top1']:.1f} of its teacher's {teacher['top1']:.1f} % top-1 zero-shot "
        f"with {100 * student['parameters'] / teacher['parameters']:.0f} % of its parameters {seed}."
    )
