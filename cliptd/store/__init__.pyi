from .live import LiveSource as LiveSource
from .live import as_source as as_source
from .reader import StoreMissError as StoreMissError
from .reader import TeacherStore as TeacherStore
from .source import Source as Source
from .writer import StoreWriter as StoreWriter
