"""What tells a data set from another one of as many samples, so that a run is not resumed on other data."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cliptd.data.files.cache import size_and_date


def identity_of(data: Any) -> str:
    """The number of samples and the data's `identity`, its `name` or, with neither, its type."""
    found = getattr(data, "identity", None) or getattr(data, "name", None) or type(data).__name__
    return f"{len(data)} of {found}"


def state_of_files(files: Iterable[str | Path], *facts: Any) -> str:
    """Another one whenever what is read of the files, in the way that the facts say, may have changed."""
    described = [*facts, *([str(file), *size_and_date(Path(file))] for file in files)]
    return _digest(json.dumps(described, default=str))


def state_of(data: Any) -> str | None:
    """The data's `state`, or None for data that may change without a sign of it."""
    return getattr(data, "state", None)


def identity_of_files(files: Iterable[str | Path]) -> str:
    """The first file's name, and 16 hex digits of the names and sizes of all; files may move, dates may change."""
    paths = [Path(file) for file in files]
    described = "".join(f"{path.name} {path.stat().st_size}\n" for path in paths)
    return f"{paths[0].name} … sha256:{_digest(described)}"


def identity_of_folder(folder: str | Path, files: Iterable[str]) -> str:
    """The folder's name, and 16 hex digits of its files' paths, which are relative to it."""
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file}\n".encode(errors="surrogateescape"))
    return f"{Path(folder).resolve().name} sha256:{found.hexdigest()[:16]}"


def wherever(name: str | Path) -> str:
    """A model's id as it is, and of a local folder its own name: the same model, wherever it lies."""
    path = Path(str(name).removeprefix("local-dir:").removeprefix("hf:"))
    return path.name if path.is_dir() else str(name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
