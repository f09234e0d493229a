"""Losses between a student's and a teacher's image and text embeddings, one loss per file."""

from cliptd.embedding.loss_weights import AFFINITY_SCALE
from cliptd.embedding.losses.affinity import affinity_mimicking
from cliptd.embedding.losses.contrastive import contrastive
from cliptd.embedding.losses.feature import feature_mimicking
from cliptd.embedding.losses.interactive import interactive_contrastive
from cliptd.embedding.losses.reinforced import reinforced_contrastive
from cliptd.embedding.losses.relation import contrastive_relation
from cliptd.embedding.losses.sigmoid import sigmoid
from cliptd.embedding.losses.unpaired import dime_fm

__all__ = [
    "AFFINITY_SCALE",
    "affinity_mimicking",
    "contrastive",
    "contrastive_relation",
    "dime_fm",
    "feature_mimicking",
    "interactive_contrastive",
    "reinforced_contrastive",
    "sigmoid",
]
