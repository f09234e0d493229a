"""One accelerate loop for every method: stateless sampler and seeds, exact resume, no pickle."""

from cliptd.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
