"""Images and sentences that are no pairs (DIME-FM, arXiv 2303.18232)."""

from cliptd.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
