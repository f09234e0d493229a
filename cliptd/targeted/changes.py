"""Settings that differ from a method's own, for command lines: every field optional."""

import dataclasses
from typing import Any

from cliptd.targeted.config import TargetedDistillationConfig


def _given(self: Any) -> dict[str, Any]:
    """The fields that were given, for `TargetedDistillationConfig.for_method(method, **changes)`."""
    return {name: value for name, value in vars(self).items() if value is not None}


DistillationChanges = dataclasses.make_dataclass(
    "DistillationChanges",
    [
        (field.name, field.type | None, dataclasses.field(default=None))
        for field in dataclasses.fields(TargetedDistillationConfig)
    ],
    # Python 3.11 does not set the module by itself, without which an instance cannot go to another process.
    namespace={"given": _given, "__doc__": TargetedDistillationConfig.__doc__, "__module__": __name__},
)
