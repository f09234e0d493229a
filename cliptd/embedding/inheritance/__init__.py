"""Weight inheritance: a small open_clip model out of a large one's layers, channels, heads and units."""

from cliptd.embedding.inheritance.inherit import How, inherit_weights
from cliptd.embedding.inheritance.student_config import share_config, shrunk_config

__all__ = ["How", "inherit_weights", "share_config", "shrunk_config"]
