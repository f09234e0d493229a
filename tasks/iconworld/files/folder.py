"""Write generated files once, by one process, and again only if their settings or the fonts change."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cliptd.utils.files import write_lines
from cliptd.utils.locks import one_process_at_a_time
from tasks.iconworld.glyphs import FAMILIES, font_file

PROPOSALS = "proposals.jsonl"
"""Name of the file with the icons' boxes, for tasks whose own files have no boxes."""


MARKER = "iconworld.json"


def is_iconworld(folder: Path) -> bool:
    """Return whether a folder of a task's files was written by `write_once`."""
    return (folder / MARKER).is_file()


def write_once(folder: Path, description: dict[str, Any], write: Callable[[], None]) -> Path:
    """Call `write` unless `folder` already holds what `description` and the installed fonts say; returns the folder."""
    description = {**description, "fonts": [font_file(family)[0].name for family in FAMILIES]}
    marker = folder / MARKER
    folder.mkdir(parents=True, exist_ok=True)
    with one_process_at_a_time(folder / ".lock"):  # of two first runs one writes; the other finds it done
        if not marker.exists() or json.loads(marker.read_text()) != description:
            write()
            write_lines(marker, [json.dumps(description)])
    return folder
