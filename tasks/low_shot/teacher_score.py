"""The teacher's own score on a grid's test sets, zero-shot, kept beside the cells."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from cliptd.utils.files import write_atomically
from tasks.known_tasks import KnownTask
from tasks.settings import FinetuneSettings

NAME = "teacher.json"
ITEMS = 1000
"""The first items of each test set that the teacher is asked about."""


def kept_teacher_scores(out: Path, base: FinetuneSettings) -> list[dict[str, Any]] | None:
    """Return the rows that `teacher_scores` wrote, or None if a test set is missing there."""
    path = out / NAME
    if not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept["rows"] if set(base.test_sets) <= set(kept["asked"]) else None


def teacher_scores(out: Path, base: FinetuneSettings, known: KnownTask) -> list[dict[str, Any]]:
    """Score the teacher on every test set of the task and write the rows into a folder.

    Returns:
        A row a test set: test_set, the task's metrics in percent, and items.
    """
    from cliptd.teachers import load_teacher
    from cliptd.training import make_accelerator

    settings = dataclasses.replace(base, run_dir=out / "teacher", store=None)
    accelerator = make_accelerator(settings.training, settings.run_dir)
    task = known.task_class(settings, accelerator)
    teacher = load_teacher(base.teacher, base.pretrained, device=accelerator.device)
    rows = [
        {"test_set": name, **known.score_teacher(teacher, dataset, task.collate.texts, ITEMS)}
        for name, dataset in task.tests.items()
    ]
    content = {"asked": list(base.test_sets), "rows": rows}
    write_atomically(out / NAME, json.dumps(content, indent=2) + "\n")
    return rows
