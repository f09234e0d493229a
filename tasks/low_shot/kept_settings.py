"""What all runs of a folder share, kept beside them, so that other settings are refused."""

import json
from pathlib import Path
from typing import Any

from cliptd.utils.files import write_atomically
from cliptd.utils.run_folder import differences

NAME = "settings.json"


def keep_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings that all runs of a folder share, once.

    Raises:
        ValueError: the folder holds runs of other settings; it names what differs.
    """
    shared, path = json.loads(json.dumps(settings, default=str)), out / NAME
    if path.exists():
        found = list(differences(json.loads(path.read_text(encoding="utf-8")), shared))
        if found:
            raise ValueError(f"{out} holds cells of other settings ({'; '.join(found)}); use another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(shared, indent=2) + "\n")


def kept_settings(out: Path) -> dict[str, Any]:
    """Return what `keep_settings` wrote into a folder; empty if it wrote nothing there."""
    path = out / NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
