"""Strings that differ between data sets, also of equal length, so that a run is not resumed on other data."""

import hashlib
import json
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

from cliptd.data.files.cache import size_and_date


def identity_of(data: Sized) -> str:
    """Return the number of samples and the data's `identity`. Data without one are named by their `name` or type."""
    found = getattr(data, "identity", None) or getattr(data, "name", None) or type(data).__name__
    return f"{len(data)} of {found}"


def state_of_files(files: Iterable[str | Path], *facts: Any) -> str:
    """Return 16 hex digits that change with the files' paths, sizes and modification times, and with the facts."""
    described = [*facts, *([str(file), *size_and_date(Path(file))] for file in files)]
    return _digest(json.dumps(described, default=str))


def state_of(data: object) -> str | None:
    """Return the data's `state`, or None for data that have none and may change unnoticed."""
    return getattr(data, "state", None)


def identity_of_files(files: Iterable[str | Path]) -> str:
    """Return the first file's name and 16 hex digits of all names and sizes. Folders and dates do not count."""
    paths = [Path(file) for file in files]
    described = "".join(f"{path.name} {path.stat().st_size}\n" for path in paths)
    return f"{paths[0].name} … sha256:{_digest(described)}"


def identity_of_folder(folder: str | Path, files: Iterable[str]) -> str:
    """Return the folder's name and 16 hex digits of its files' paths, which are relative to it."""
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file}\n".encode(errors="surrogateescape"))
    return f"{Path(folder).resolve().name} sha256:{found.hexdigest()[:16]}"


def wherever(name: str | Path) -> str:
    """Return a model's id, or the last part of a local folder, so that a moved model keeps its name."""
    path = Path(str(name).removeprefix("local-dir:").removeprefix("hf:"))
    return path.name if path.is_dir() else str(name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
