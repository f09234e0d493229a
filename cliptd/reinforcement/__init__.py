"""Reinforced datasets (MobileCLIP, arXiv 2311.17049): make them, read them, train on them."""

from cliptd.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
