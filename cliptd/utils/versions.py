"""The versions of the libraries that decide what a run computes."""

import platform
from importlib.metadata import PackageNotFoundError, version

import cliptd

LIBRARIES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "transformers",
    "accelerate",
    "datasets",
)


def library_versions() -> dict[str, str]:
    """Return the version of Python, of cliptd and of each installed library, by its name on PyPI."""
    found = {"python": platform.python_version(), "cliptd": cliptd.__version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
