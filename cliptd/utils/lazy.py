"""Packages that import the module of a public name when that name is first used."""

from collections.abc import Callable
from typing import Any

import lazy_loader


def lazy_package(name: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package whose `__init__.pyi` tells the modules of its names.

    Type checkers read the same `__init__.pyi`, so a misspelt name is a type error.

    Args:
        name: the package's `__name__`.
        file: its `__file__`.
    """
    load, list_names, names = lazy_loader.attach_stub(name, file)

    def get(attribute: str) -> Any:
        if attribute not in names:
            raise AttributeError(
                f"module {name!r} has no attribute {attribute!r}; it has {', '.join(sorted(names))}"
            )
        return load(attribute)

    return get, list_names, names
