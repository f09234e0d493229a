"""Settings that differ from a method's own, for command lines: every field optional."""

from dataclasses import dataclass
from typing import Any

from cliptd.targeted.config import (
    Confidence,
    ConfidenceOver,
    Distance,
    Head,
    RelativeTo,
    Score,
    Selection,
    Semantic,
    ShareHeads,
    TargetedDistillationConfig,
    TextCandidates,
    TextTarget,
    VisualOver,
)


@dataclass
class DistillationChanges:
    """The fields of `TargetedDistillationConfig`, each None where the method's own value stays."""

    image_weight: float | None = None
    region_weight: float | None = None
    word_weight: float | None = None
    text_weight: float | None = None
    distance: Distance | None = None
    infonce_temperature: float | None = None
    normalise_projection: bool | None = None
    head: Head | None = None
    share_heads: ShareHeads | None = None
    selection: Selection | None = None
    mass: float | None = None
    top_k: int | None = None
    score: Score | None = None
    semantic: Semantic | None = None
    visual_over: VisualOver | None = None
    relative_to: RelativeTo | None = None
    visual_temperature: float | None = None
    semantic_temperature: float | None = None
    drop_stopwords: bool | None = None
    word_prompt: str | None = None
    text_target: TextTarget | None = None
    text_candidates: TextCandidates | None = None
    confidence: Confidence | None = None
    confidence_over: ConfidenceOver | None = None
    confidence_temperature: float | None = None
    confidence_max_ratio: float | None = None
    confidence_eps: float | None = None
    normalise_weights: bool | None = None
    shuffle_teacher: bool | None = None
    seed: int | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, for `TargetedDistillationConfig.for_method(method, **changes)`."""
        return {name: value for name, value in vars(self).items() if value is not None}


DistillationChanges.__doc__ = TargetedDistillationConfig.__doc__  # which explains the fields to --help
