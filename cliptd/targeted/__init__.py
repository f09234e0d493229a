"""CLIP-targeted distillation (arXiv 2201.05729): words, selection, weighting, objective, configuration."""

from cliptd.targeted.collator import DistillationCollator, precompute
from cliptd.targeted.config import TargetedDistillationConfig
from cliptd.targeted.distances import embedding_distance
from cliptd.targeted.inputs import DistillationInputs
from cliptd.targeted.objective import DistillationTerms, TargetedDistillation
from cliptd.targeted.relevance import (
    DocumentFrequency,
    combine_relevance,
    leave_one_out,
    semantic_relevance,
    visual_relevance,
)
from cliptd.targeted.selection import select_tokens
from cliptd.targeted.stopwords import STOP_WORDS, is_content_word
from cliptd.targeted.token_states import mean_by_word
from cliptd.targeted.weighting import confidence_weights, teacher_probability
from cliptd.targeted.words import WordedText, encode_with_words

__all__ = [
    "STOP_WORDS",
    "DistillationCollator",
    "DistillationInputs",
    "DistillationTerms",
    "DocumentFrequency",
    "TargetedDistillation",
    "TargetedDistillationConfig",
    "WordedText",
    "combine_relevance",
    "confidence_weights",
    "embedding_distance",
    "encode_with_words",
    "is_content_word",
    "leave_one_out",
    "mean_by_word",
    "precompute",
    "select_tokens",
    "semantic_relevance",
    "teacher_probability",
    "visual_relevance",
]
