"""Where derived files are kept between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$CLIPTD_CACHE, or ~/.cache/cliptd."""
    return Path(os.environ.get("CLIPTD_CACHE", Path.home() / ".cache" / "cliptd"))
