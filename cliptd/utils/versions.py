"""The versions of the libraries that decide what a run computes."""

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = (
    "cliptd",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "transformers",
    "accelerate",
    "datasets",
)


def library_versions() -> dict[str, str]:
    """Return the version of Python and of each installed library, by its name on PyPI."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # such as cliptd itself, run from its sources
            continue
    return found
