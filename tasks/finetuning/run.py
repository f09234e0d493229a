"""Fine-tune, score and report, as the commands finetune_vcr, finetune_vqa and finetune_snli_ve do."""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from cliptd.data.identity import identity_of_files
from tasks.finetuning.results import report, say
from tasks.known_tasks import KnownTask
from tasks.settings import FinetuneSettings

FREE = ("run_dir", "eval_batch_size", "region_cache")
FREE_IN_TRAINING = ("num_workers", "save_every", "track", "resume")
"""Settings that change no result: a finished run with others is the same run."""


def run(settings: FinetuneSettings, known: KnownTask, arguments: Sequence[str]) -> None:
    """Train and score every method and say what came of it. A finished run only says it again.

    Args:
        arguments: the command's options as they were typed.
    """
    main_process = os.environ.get("RANK", "0") == "0"
    rows = finished_rows(settings)
    if rows is not None:
        if main_process:
            print(f"{settings.run_dir} holds this run, finished; nothing is trained again.", file=sys.stderr)
            say(settings, rows, known, arguments)
        return
    from tasks.finetuning.finetune import finetune  # with torch, which a finished run does not need

    rows = finetune(settings, known.task_class)
    if main_process:
        report(settings, rows, known, arguments)


def finished_rows(settings: FinetuneSettings) -> list[dict[str, Any]] | None:
    """Return the rows of results.json if it is of these settings and these training files; else None."""
    path = settings.run_dir / "results.json"
    if settings.training.resume == "never" or not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    asked = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    if _bound(stored["settings"]) != _bound(asked):
        return None  # `finetune` says what differs
    files = settings.data.training_files()
    if not all(file.is_file() for file in files):
        return None
    if stored["split"].get("training_files") != identity_of_files(files):
        return None
    return stored["rows"]


def _bound(settings: dict[str, Any]) -> dict[str, Any]:
    training = {name: value for name, value in settings["training"].items() if name not in FREE_IN_TRAINING}
    return {**{name: value for name, value in settings.items() if name not in FREE}, "training": training}
