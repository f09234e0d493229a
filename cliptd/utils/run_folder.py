"""The settings that a folder remembers, so that nobody goes on in it with others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cliptd.utils.files import read_json, write_atomically


def as_json_values(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they are after writing and reading them: tuples become lists, paths and the like text.

    >>> as_json_values({"data": Path("train"), "scale": (0.1, 1.0)})
    {'data': 'train', 'scale': [0.1, 1.0]}
    """
    return json.loads(json.dumps(settings, default=str))


def remember_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write settings to a JSON file of a folder, whole or not at all, as `as_json_values` returns them.

    Write other files that the work needs first, because the next call goes on as soon as this file is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(settings, indent=1, default=str) + "\n")


def remembered_settings(path: Path, remedy: str) -> dict[str, Any] | None:
    """Return the settings that `remember_settings` wrote, or None if the folder has no such file.

    Raises ValueError, which ends with `remedy`, if the file is cut short or not JSON.
    """
    return read_json(path, remedy) if path.exists() else None


def refuse_other_settings(
    folder: Path, there: dict[str, Any], here: dict[str, Any], *, holds: str, remedy: str
) -> None:
    """Compare the settings that a folder remembers with those of the current call.

    Args:
        folder: the folder, which the message begins with.
        there: its settings, as `remembered_settings` returned them.
        here: those of the current call.
        holds: what the folder holds if the settings differ, such as "a run with other settings".
        remedy: what to do then. The message ends with it.

    Raises:
        ValueError: a setting differs. The message names each such setting with both values.

    >>> there, here = {"a": 1, "training": {"lr": 2}}, {"a": 1, "training": {"lr": 3}}
    >>> refuse_other_settings(Path("run"), there, here, holds="another run", remedy="use another folder")
    Traceback (most recent call last):
    ValueError: run holds another run (training.lr is 2 there, 3 here); use another folder
    """
    found = list(differences(there, as_json_values(here)))
    if found:
        raise ValueError(f"{folder} holds {holds} ({'; '.join(found)}); {remedy}")


def differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every setting that differs, with both values. Nested settings have dotted names, a missing one is None.

    >>> list(differences({"a": 1, "training": {"lr": 2}}, {"a": 1, "training": {"lr": 3}}))
    ['training.lr is 2 there, 3 here']
    """
    for name in sorted(there.keys() | here.keys()):
        old, new = there.get(name), here.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name} is {old!r} there, {new!r} here"
