"""Compare the settings that a folder remembers with those of the current call."""

from collections.abc import Iterator
from typing import Any


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
