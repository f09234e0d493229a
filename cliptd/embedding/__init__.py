"""Small dual encoders out of large ones: losses, the distiller, weight inheritance, learned masks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptd.embedding.inheritance import inherit_weights as inherit_weights
    from cliptd.embedding.inheritance import shrunk_config as shrunk_config

_OF_INHERITANCE = ("inherit_weights", "shrunk_config")


def __getattr__(name: str) -> Any:
    if name in _OF_INHERITANCE:  # imported when it is asked for: it brings open_clip with it
        from cliptd.embedding import inheritance

        return getattr(inheritance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
