"""Distil, save and report, as the command distill_embeddings does."""

import dataclasses
import json
import os
import sys
from typing import Any

from cliptd.data.identity import identity_of
from cliptd.training.config import FREE_ON_RESUME
from tasks.embeddings.data import training_pairs
from tasks.embeddings.results import say
from tasks.embeddings.settings import DistillEmbeddings


def run(asked: DistillEmbeddings) -> None:
    """Train and save a student and say what came of it; a finished run only says it again."""
    main_process = os.environ.get("RANK", "0") == "0"
    rows = finished_rows(asked)
    if rows is None:
        from tasks.embeddings.training import train  # with torch, which a finished run does not need

        rows = train(asked)
    elif main_process:
        print(f"{asked.run_dir} holds this run, finished; nothing is trained again.", file=sys.stderr)
    if main_process:
        say(asked, rows)


def finished_rows(asked: DistillEmbeddings) -> list[dict[str, Any]] | None:
    """Return the rows of results.json if it is of these settings and this training data; else None."""
    path = asked.run_dir / "results.json"
    if asked.training.resume == "never" or not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    own = json.loads(json.dumps(dataclasses.asdict(asked), default=str))
    if _bound(stored["settings"]) != _bound(own):
        return None  # the run says what differs
    if asked.mix is not None and stored.get("data") != identity_of(training_pairs(asked)):
        return None
    return stored["rows"]


def _bound(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that change a result."""
    training = {name: value for name, value in settings["training"].items() if name not in FREE_ON_RESUME}
    return {**settings, "run_dir": None, "on_bad_sample": None, "training": training}
