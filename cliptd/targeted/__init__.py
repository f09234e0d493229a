"""CLIP-targeted distillation (arXiv 2201.05729): words, selection, weighting, objective, configuration."""

from cliptd.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
