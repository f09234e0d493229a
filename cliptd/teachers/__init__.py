"""Frozen image–text dual encoders that own their image transform and their tokenizer."""

from cliptd.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
