"""cliptd: distil CLIP teachers into vision-language models and into small CLIP-like models.

Names are imported when they are first used, so `import cliptd` costs nothing.
"""

from cliptd.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)

__version__ = "0.2.0.dev0"  # setup.py reads it here
