"""Image–text pairs in CSVs, folders, tables and webdataset shards."""

from cliptd.utils.lazy import lazy_package

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
