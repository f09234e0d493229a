"""An extension of griffe, which reads docstrings for the reference: doctests become blocks of code."""

import re
from typing import Any

from griffe import Extension, Object

DOCTEST = re.compile(r"(?m)^( *)>>> .*(?:\n\1(?! *$).+)*")
"""Lines from the first prompt to the next empty line."""


class FencedDoctests(Extension):
    """Puts a fence around every doctest, which Markdown would otherwise read as text."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of a module, a class, a function or an attribute."""
        if obj.docstring is not None:
            obj.docstring.value = DOCTEST.sub(
                lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", obj.docstring.value
            )
