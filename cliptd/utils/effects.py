"""Refuse settings that are typed but change nothing beside the others."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Effect(NamedTuple):
    """Where a setting has an effect: in words, and as a function of all settings."""

    where: str
    holds: Callable[[Any], bool]


def refuse_without_effect(settings: Any, effects: Mapping[str, Effect]) -> None:
    """Refuse the first setting that differs from its default and has no effect beside the others.

    Args:
        settings: a dataclass.
        effects: the rule of each setting that may have no effect.

    Raises:
        ValueError: the message names the setting and where it has an effect.

    >>> @dataclasses.dataclass
    ... class Settings:
    ...     crop: bool = False
    ...     crops: int = 10
    >>> refuse_without_effect(Settings(crops=3), {"crops": Effect("crop", lambda asked: asked.crop)})
    Traceback (most recent call last):
    ValueError: crops has no effect here; it belongs to crop
    """
    defaults = {field.name: _default(field) for field in dataclasses.fields(settings)}
    for name, effect in effects.items():
        if getattr(settings, name) != defaults[name] and not effect.holds(settings):
            raise ValueError(f"{name} has no effect here; it belongs to {effect.where}")


def _default(field: "dataclasses.Field[Any]") -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()
