"""Annotations by which settings explain themselves on the command line."""

from typing import Any

import tyro.conf


def shown_default(text: str, aliases: list[str] | None = None) -> Any:
    """Annotate a field whose default is None or empty: --help shows this text for it.

    Args:
        aliases: other names of the flag.
    """

    def hint(default: str) -> str:
        return f"(default: {text if default in ('None', '') else default})"

    return tyro.conf.arg(help_behavior_hint=hint, aliases=aliases)
