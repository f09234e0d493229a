"""Small dual encoders out of large ones: losses, distillation, weight inheritance, pruning."""

from cliptd.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
