"""Which defaults of a task differ between the user's own data and the embedded benchmark."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasks.command_line import flags_of
from tasks.settings import FinetuneSettings

OF_THE_DATA = (
    "data.",
    "student",
    "regions",
    "region_cache",
    "teacher",
    "pretrained",
    "adaptation.",
    "test_sets",
)
"""Settings that name data and models, which nobody expects to be the benchmark's."""
WHY = (
    "the embedded benchmark trains a small student from few items in minutes, and its teacher knows only icons of one "
    "size"
)


def changed_defaults(
    own: FinetuneSettings, embedded: FinetuneSettings, arguments: Sequence[str]
) -> str | None:
    """Return a sentence with the defaults that differ, or None if there are none.

    Args:
        own: the defaults without the embedded benchmark.
        embedded: the benchmark's.
        arguments: the command line. What is typed there is no default.
    """
    flags = flags_of(type(own))
    typed = {argument.split("=")[0].replace("_", "-") for argument in arguments}
    ours, theirs = _flat(own), _flat(embedded)
    found = [
        f"{flags[name]} {_shown(ours[name])} (there {_shown(theirs[name])})"
        for name in flags
        if name in ours and ours[name] != theirs[name]
        if not name.startswith(OF_THE_DATA) or name == "teacher_boxes"
        if flags[name] not in typed
    ]
    return (
        f"Defaults that differ from those without --data-root, because {WHY}: {', '.join(found)}."
        if found
        else None
    )


def _flat(settings: FinetuneSettings) -> dict[str, Any]:
    """Return all settings by their dotted names."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            found |= {f"{field.name}.{name}": one for name, one in vars(value).items()}
        else:
            found[field.name] = value
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
