"""Settings that differ from a method's own, for command lines: every field is optional."""

from dataclasses import dataclass
from typing import Annotated, Any

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
from cliptd.utils.options import shown_default


def _default(field: str) -> Any:
    """Return the annotation by which --help shows the method's own value as a field's default."""
    value = getattr(TargetedDistillationConfig, field)
    return shown_default(f"the method's own; targeted has {value!r}")


@dataclass
class DistillationChanges:
    __doc__ = TargetedDistillationConfig.__doc__  # --help shows the fields' own documentation

    image_weight: Annotated[float | None, _default("image_weight")] = None
    region_weight: Annotated[float | None, _default("region_weight")] = None
    word_weight: Annotated[float | None, _default("word_weight")] = None
    text_weight: Annotated[float | None, _default("text_weight")] = None
    distance: Annotated[Distance | None, _default("distance")] = None
    infonce_temperature: Annotated[float | None, _default("infonce_temperature")] = None
    normalise_projection: Annotated[bool | None, _default("normalise_projection")] = None
    head: Annotated[Head | None, _default("head")] = None
    share_heads: Annotated[ShareHeads | None, _default("share_heads")] = None
    selection: Annotated[Selection | None, _default("selection")] = None
    mass: Annotated[float | None, _default("mass")] = None
    top_k: Annotated[int | None, _default("top_k")] = None
    score: Annotated[Score | None, _default("score")] = None
    semantic: Annotated[Semantic | None, _default("semantic")] = None
    visual_over: Annotated[VisualOver | None, _default("visual_over")] = None
    relative_to: Annotated[RelativeTo | None, _default("relative_to")] = None
    visual_temperature: Annotated[float | None, _default("visual_temperature")] = None
    semantic_temperature: Annotated[float | None, _default("semantic_temperature")] = None
    drop_stopwords: Annotated[bool | None, _default("drop_stopwords")] = None
    word_prompt: Annotated[str | None, _default("word_prompt")] = None
    text_target: Annotated[TextTarget | None, _default("text_target")] = None
    text_candidates: Annotated[TextCandidates | None, _default("text_candidates")] = None
    confidence: Annotated[Confidence | None, _default("confidence")] = None
    confidence_over: Annotated[ConfidenceOver | None, _default("confidence_over")] = None
    confidence_temperature: Annotated[float | None, _default("confidence_temperature")] = None
    confidence_max_ratio: Annotated[float | None, _default("confidence_max_ratio")] = None
    confidence_eps: Annotated[float | None, _default("confidence_eps")] = None
    normalise_weights: Annotated[bool | None, _default("normalise_weights")] = None
    shuffle_teacher: Annotated[bool | None, _default("shuffle_teacher")] = None
    seed: Annotated[int | None, _default("seed")] = None

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, for `TargetedDistillationConfig.for_method(method, **changes)`."""
        return {name: value for name, value in vars(self).items() if value is not None}
