"""The words that settings of dual encoders may take; importing them costs no torch."""

from typing import Literal

Tower = Literal["image", "text"]
"""One of a dual encoder's two towers."""
TOWERS: tuple[Tower, ...] = ("image", "text")
How = Literal["even", "leading", "magnitude"]
"""The choice of layers and channels that a student inherits; see `cliptd.embedding.inherit_weights`."""
ObjectiveName = Literal[
    "affinity", "feature", "relation", "interactive", "contrastive", "sigmoid", "clip_kd", "dime-fm"
]
"""A loss, or a mix of losses, between a student's and a teacher's embeddings."""
