"""What the processes of a grid do: check everything, look at the training set, train a cell, score the teacher.

Nothing here imports torch before a run is really trained: a finished grid reads its files and is done.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliptd.targeted.config import Method
from cliptd.utils.files import write_atomically
from tasks.known_tasks import KnownTask
from tasks.low_shot.grid import Grid, with_labels
from tasks.settings import FinetuneSettings

RESUMED = "resumed.txt"
"""The file that marks a run which went on after a stop: its seconds are those of the last call alone."""
STORE = "store"


def check_grid(grid: Grid, base: FinetuneSettings, known: KnownTask, methods: Sequence[Method]) -> None:
    """Open the data at every number of labels, the test sets, the student and the teacher, before anything is trained.

    Args:
        methods: those of which a run is not finished.

    Raises:
        ValueError, OSError: naming the setting or the file, what was found and what to do.
    """
    from cliptd.training import make_accelerator
    from tasks.finetuning.check_first import check_first

    for number in range(len(grid.labels)):
        known.training_sets(with_labels(grid, base, number).data, grid.seeds[0])
    checked = dataclasses.replace(
        with_labels(grid, base, 0), methods=tuple(methods), run_dir=grid.out / "check"
    )
    task = known.task_class(checked, make_accelerator(checked.training, checked.run_dir))
    check_first(checked, task)


def build_shared_store(grid: Grid, base: FinetuneSettings, known: KnownTask) -> Path:
    """Return the store of the whole training set, which the teacher looks at once, for all cells."""
    path, marker = grid.out / STORE, grid.out / STORE / "complete"
    wanted = " ".join(grid.methods)
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return path
    from cliptd.teachers import load_teacher
    from cliptd.training import make_accelerator
    from tasks.finetuning.teacher_source import build_store
    from tasks.finetuning.training_material import TrainingMaterial

    data = dataclasses.replace(base.data, items=None, fraction=None)
    whole = dataclasses.replace(base, data=data, test_sets=(), run_dir=grid.out / "store_run")
    accelerator = make_accelerator(whole.training, whole.run_dir)
    task = known.task_class(whole, accelerator)
    teacher = load_teacher(base.teacher, base.pretrained, device=accelerator.device)
    for method in grid.methods:
        config = base.method_config(method)
        if config.distils and method != "adapted_teacher":  # whose teacher is each cell's own
            build_store(path, teacher, config, TrainingMaterial(whole, task).questions)
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(marker, wanted)
    return path


def is_finished(settings: FinetuneSettings) -> bool:
    """Return whether a run is scored on every test set, or known to diverge."""
    path = settings.run_dir / "results.json"
    if not path.exists():
        return (settings.run_dir / "diverged.txt").exists()
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return set(settings.test_sets) <= {row["test_set"] for row in rows}


def run_cell(settings: FinetuneSettings, known: KnownTask, name: str) -> list[dict[str, Any]] | str:
    """Return the rows of a run, or a line that says how it diverged.

    They come out of its folder if it is finished there. A test set that was added later is scored without training.
    Progress calls the run by `name`.
    """
    note, results = settings.run_dir / "diverged.txt", settings.run_dir / "results.json"
    if is_finished(settings):
        if note.exists():
            return note.read_text(encoding="utf-8")
        return json.loads(results.read_text(encoding="utf-8"))["rows"]
    from tasks.finetuning.finetune import finetune

    if any(settings.run_dir.glob("*/log.jsonl")):
        write_atomically(settings.run_dir / RESUMED, "")
    try:
        return finetune(settings, known.task_class, name=name)
    except FloatingPointError as error:
        text = f"{settings.run_dir.name}: {' '.join(str(error).split())}"
        write_atomically(note, text)
        return text


def validation_score(settings: FinetuneSettings, known: KnownTask, name: str) -> float:
    """Return the validation score of a tuning trial, or minus infinity if it diverged."""
    rows = run_cell(settings, known, name)
    if isinstance(rows, str):
        return -math.inf
    metric = settings.training.metric
    assert metric is not None  # as the settings check
    return next(row[metric] for row in rows if row["test_set"] == "validation")
