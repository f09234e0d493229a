"""Configuration of CLIP-TD: every line of the method is a switch; the baselines are settings only."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Distance = Literal["cosine", "l1", "mse", "infonce"]
Head = Literal["linear", "mlp"]
Selection = Literal["mass", "top_k", "sample", "random", "all"]
Score = Literal["product", "mean", "visual", "semantic"]
Semantic = Literal["leave_one_out", "idf"]
RelativeTo = Literal["corpus", "none"]
VisualOver = Literal["regions", "image"]
ShareHeads = Literal["none", "text", "all"]
TextTarget = Literal["full", "selected"]
TextCandidates = Literal["all", "right"]
Confidence = Literal["ratio", "teacher", "constant"]
ConfidenceOver = Literal["candidates", "batch"]
Method = Literal[
    "none",
    "naive",
    "all_words",
    "random_words",
    "visual_only",
    "semantic_only",
    "selected",
    "targeted",
    "adapted_teacher",
    "shuffled_teacher",
    "teacher_input",
]

WEIGHTS = ("image_weight", "region_weight", "word_weight", "text_weight")
"""The λ of the objective's terms."""

_CHOICES = {
    "distance": Distance,
    "head": Head,
    "selection": Selection,
    "score": Score,
    "semantic": Semantic,
    "relative_to": RelativeTo,
    "visual_over": VisualOver,
    "share_heads": ShareHeads,
    "text_target": TextTarget,
    "text_candidates": TextCandidates,
    "confidence": Confidence,
    "confidence_over": ConfidenceOver,
}

_NO_DISTILLATION = {
    "image_weight": 0.0,
    "region_weight": 0.0,
    "word_weight": 0.0,
    "text_weight": 0.0,
    "confidence": "constant",
}
_METHODS: dict[str, dict[str, Any]] = {
    "none": _NO_DISTILLATION,
    "naive": {"region_weight": 0.0, "word_weight": 0.0, "confidence": "constant"},
    "all_words": {"selection": "all", "drop_stopwords": False, "confidence": "constant"},
    "random_words": {"selection": "random", "confidence": "constant"},
    "visual_only": {"score": "visual", "confidence": "constant"},
    "semantic_only": {"score": "semantic", "confidence": "constant"},
    "selected": {"confidence": "constant"},
    "targeted": {},
    "adapted_teacher": {},
    "shuffled_teacher": {"shuffle_teacher": True},
    "teacher_input": _NO_DISTILLATION,
}


@dataclass(frozen=True)
class TargetedDistillationConfig:
    """Settings of CLIP-targeted distillation (arXiv 2201.05729); the defaults are the full method.

    Args:
        image_weight: λ_v, weight of the image term; 0 leaves the term and its head out.
        region_weight: λ_r, weight of the region term, the image term per box; 0 where batches name no regions.
        word_weight: λ_t, weight of the word term.
        text_weight: λ_s, weight of the sentence term.
        distance: D between a projected student state and its teacher embedding.
        infonce_temperature: divides the cosines of "infonce".
        normalise_projection: "l1" and "mse" compare unit vectors; False compares the head's raw output.
        head: "linear", or "mlp" (linear, GELU, linear); heads exist in training only.
        share_heads: "text": words and sentences go through one head, image and regions through another; "all":
            one head for all, which puts what looks like a word beside that word (needs states of one width);
            "none": a head a term.
        selection: how words are kept. "mass": the smallest set holding `mass` of the probability;
            "top_k"; "sample": as many as "mass" keeps, drawn without replacement in proportion to the score;
            "random": as many as "mass" keeps, drawn uniformly; "all".
        mass: probability mass p in (0, 1].
        top_k: words kept by "top_k".
        score: "product" or "mean" of the visual and semantic softmax, or one of the two alone.
        semantic: "leave_one_out" (how far the sentence embedding moves without the word) or "idf".
        visual_over: a word is as visible as in the most similar of the image's "regions" (of the whole image
            where batches name none), or as in the whole "image".
        relative_to: visual relevance relative to the "corpus" mean image (the source's `image_mean`: a store's is of
            all its images, a live teacher's of those it was calibrated with), or "none".
        visual_temperature: of the softmax over visual relevance (cosine units).
        semantic_temperature: of the softmax over semantic relevance (cosine units; nats for "idf").
        drop_stopwords: function words are never kept (words without a letter or digit never are).
        word_prompt: the teacher's text for a word; holds "{word}" once.
        text_target: the sentence target is the "full" text, or the text of the "selected" words.
        text_candidates: distil "all" candidates' texts and words, or only the "right" one's (needs labels).
        confidence: instance weight: "ratio" (teacher's over student's probability), "teacher", "constant".
        confidence_over: the teacher's probability is taken over the instance's own "candidates" or rivals where it
            has any, else over the batch; or always over the "batch".
        confidence_temperature: weight = ratio ** (1 / temperature); larger is flatter.
        confidence_max_ratio: the ratio (before the temperature) is capped here.
        confidence_eps: added to both probabilities, so no weight is 0 or infinite.
        normalise_weights: weights have mean 1 over the (gathered) batch.
        shuffle_teacher: control: each instance gets the teacher targets of another one of its process's batch, so
            two processes exchange otherwise than one does.
        seed: of "sample" and "random", together with the instance's image key and text.

    Raises:
        ValueError: for an unknown choice or a number out of range.

    >>> TargetedDistillationConfig().couples_batch
    True
    >>> TargetedDistillationConfig.for_method("naive").word_weight
    0.0
    >>> TargetedDistillationConfig.for_method("selected", mass=0.5).mass
    0.5
    """

    image_weight: float = 1.0
    region_weight: float = 1.0
    word_weight: float = 1.0
    text_weight: float = 1.0
    distance: Distance = "cosine"
    infonce_temperature: float = 0.07
    normalise_projection: bool = True
    head: Head = "linear"
    share_heads: ShareHeads = "text"
    selection: Selection = "mass"
    mass: float = 0.8
    top_k: int = 5
    score: Score = "product"
    semantic: Semantic = "leave_one_out"
    visual_over: VisualOver = "regions"
    relative_to: RelativeTo = "corpus"
    visual_temperature: float = 0.02
    semantic_temperature: float = 0.05
    drop_stopwords: bool = True
    word_prompt: str = "a photo of a {word}"
    text_target: TextTarget = "full"
    text_candidates: TextCandidates = "all"
    confidence: Confidence = "ratio"
    confidence_over: ConfidenceOver = "candidates"
    confidence_temperature: float = 1.0
    confidence_max_ratio: float = 10.0
    confidence_eps: float = 1e-6
    normalise_weights: bool = True
    shuffle_teacher: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), get_args(choices))
        for name in WEIGHTS:
            _check_number(name, getattr(self, name), "a finite number of at least 0", lambda x: x >= 0)
        for name in (
            "infonce_temperature",
            "visual_temperature",
            "semantic_temperature",
            "confidence_temperature",
            "confidence_eps",
        ):
            _check_number(name, getattr(self, name), "a finite number above 0", lambda x: x > 0)
        _check_number("mass", self.mass, "a probability mass in (0, 1]", lambda x: 0 < x <= 1)
        _check_number(
            "top_k", self.top_k, "a whole number of at least 1", lambda x: x >= 1 and isinstance(x, int)
        )
        _check_number("confidence_max_ratio", self.confidence_max_ratio, "at least 1", lambda x: x >= 1)
        _check_number(
            "seed", self.seed, "a whole number of at least 0", lambda x: x >= 0 and isinstance(x, int)
        )
        if self.word_prompt.count("{word}") != 1 or "{" in self.word_prompt.replace("{word}", ""):
            raise ValueError(
                f'word_prompt is {self.word_prompt!r}; expected a text that holds "{{word}}" exactly once '
                'and no other brace, such as "a photo of a {word}"'
            )

    @classmethod
    def for_method(cls, method: Method, **changes: Any) -> "TargetedDistillationConfig":
        """Return the settings of a method: each is a switch of the same objective.

        Args:
            method: (a) "none"; (b) "naive": image and sentences, constant weight; (c) "all_words": adds regions
                and every word, stop-words too; (d) "random_words": content words at random, as many as (f);
                (e) "visual_only" and "semantic_only"; (f) "selected"; (g) "targeted": (f) with confidence
                weights; (h) "adapted_teacher": (g) with a teacher that the caller adapted to the task; controls
                "shuffled_teacher": (g) with other instances' targets, and "teacher_input": (a), of a student that
                `TeacherInput` gives the teacher's image embedding to read.
            changes: fields that differ from the method's own.

        Raises:
            ValueError: for an unknown method or field.
        """
        _check_choice("method", method, get_args(Method))
        known = [field.name for field in fields(cls)]
        for name in changes:
            _check_choice("field", name, tuple(known))
        return cls(**{**_METHODS[method], **changes})

    @classmethod
    def ladder(cls, preset: Method, **changes: Any) -> "TargetedDistillationConfig":
        """Return `for_method(preset, **changes)`; the name of version 0.1.0."""
        return cls.for_method(preset, **changes)

    @property
    def distils(self) -> bool:
        """Whether any term has a weight above 0."""
        return any(getattr(self, name) > 0 for name in WEIGHTS)

    @property
    def couples_batch(self) -> bool:
        """Whether the loss is more than a sum over instances, so that accumulation would change it."""
        return bool(self.couples_batch_why)

    @property
    def couples_batch_why(self) -> str:
        """What couples the instances of a batch and which settings would not; empty if nothing does."""
        if not self.distils:
            return ""
        why = []
        if self.distance == "infonce":
            why.append('distance="infonce" takes its negatives from the batch (use "cosine", "l1" or "mse")')
        if self.confidence != "constant" and self.normalise_weights:
            why.append("confidence weights have mean 1 over the batch (set normalise_weights=False)")
        if self.confidence != "constant" and self.confidence_over == "batch":
            why.append('confidence_over="batch" compares the instances of a batch (use "candidates")')
        if self.shuffle_teacher:
            why.append("shuffle_teacher exchanges targets within the batch")
        return "; ".join(why)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")


def _check_number(name: str, value: Any, expected: str, holds: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not holds(value):
        raise ValueError(f"{name} is {value!r}; expected {expected}")
