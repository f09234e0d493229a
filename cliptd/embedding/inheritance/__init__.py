"""Weight inheritance: a small open_clip model from the layers, channels, heads and units of a large one."""

from cliptd.embedding.inheritance.inherit import inherit_weights
from cliptd.embedding.inheritance.student_config import share_config, shrunk_config
from cliptd.embedding.options import How

__all__ = ["How", "inherit_weights", "share_config", "shrunk_config"]
