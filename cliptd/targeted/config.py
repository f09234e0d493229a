"""Settings of CLIP-targeted distillation. Every baseline is a choice of settings."""

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
"""The settings that hold the λ of the objective's terms."""

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
        image_weight: λ_v, the weight of the image term. With 0 the term has no head.
        region_weight: λ_r, the weight of the region term, which is the image term for each box. A batch without
            regions adds nothing.
        word_weight: λ_t, the weight of the word term.
        text_weight: λ_s, the weight of the sentence term.
        distance: D, the distance between a projected student state and its teacher embedding.
        infonce_temperature: Divide the cosines of "infonce" by this.
        normalise_projection: Compare unit vectors by "l1" and "mse". If false, compare the head's raw output.
        head: "linear", or "mlp" (linear, GELU, linear). Heads exist in training only.
        share_heads: "text": words and sentences share one head, the image and its regions share another. "all": one
            head serves all terms, so what looks like a word lies beside that word (needs states of one width).
            "none": each term has its own head.
        selection: How words are kept. "mass": the smallest set of words that holds `mass` of the probability.
            "top_k": the `top_k` most probable words. "sample": as many words as "mass" keeps, drawn without
            replacement in proportion to the score. "random": as many words as "mass" keeps, drawn uniformly.
            "all": every word.
        mass: Probability mass in (0, 1] that "mass" keeps.
        top_k: Number of words that "top_k" keeps.
        score: "product" or "mean" of the visual and the semantic softmax, or "visual" or "semantic" alone.
        semantic: Semantic relevance of a word. "leave_one_out": how far the sentence embedding moves without the
            word. "idf": the word's inverse document frequency.
        visual_over: Visual relevance of a word. "regions": its similarity to the most similar region, or to the whole
            image if the batch has no regions. "image": its similarity to the whole image.
        relative_to: "corpus": measure visual relevance relative to the mean image (the source's `image_mean`). A
            store's mean is over all its images, a live teacher's over its calibration images. "none": measure it
            as it is.
        visual_temperature: Temperature of the softmax over visual relevance, in cosine units.
        semantic_temperature: Temperature of the softmax over semantic relevance, in cosine units ("idf": in nats).
        drop_stopwords: Never keep function words. Words without a letter or digit are never kept.
        word_prompt: The teacher's text for a word. It holds "{word}" once.
        text_target: The sentence target is the "full" text, or a text of the "selected" words.
        text_candidates: Distil the texts and words of "all" candidates, or of the "right" one only (needs labels).
        confidence: Weight of an instance. "ratio": the teacher's probability over the student's. "teacher": the
            teacher's probability. "constant": 1.
        confidence_over: "candidates": take the teacher's probability over the instance's own candidates or rivals,
            or over the batch if it has none. "batch": always take it over the batch.
        confidence_temperature: The weight is ratio ** (1 / temperature), so a larger temperature gives flatter weights.
        confidence_max_ratio: Upper limit of the ratio, before the temperature.
        confidence_eps: Add this to both probabilities, so that no weight is 0 or infinite.
        normalise_weights: Scale the weights to mean 1 over the batch of all processes.
        shuffle_teacher: Control: give each instance the teacher's targets of another instance. Both are of one
            process's batch, so the exchange depends on the number of processes.
        seed: Seed of "sample" and "random", together with the instance's image key and text.

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
        """Return the settings of a method. All methods share one objective.

        Args:
            method: one of these.
                (a) "none": no distillation.
                (b) "naive": images and sentences, with constant weights.
                (c) "all_words": (b) with regions and every word, function words too.
                (d) "random_words": (c) with random content words, as many as in (f).
                (e) "visual_only", "semantic_only": (f) by one of the two scores.
                (f) "selected": the words selected by both scores.
                (g) "targeted": (f) with confidence weights.
                (h) "adapted_teacher": (g) with a teacher that the caller adapted to the task.
                Controls are "shuffled_teacher", (g) with other instances' targets, and "teacher_input", (a) with a
                student that reads the teacher's image embedding through `TeacherInput`.
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
        """Return whether any term has a weight above 0."""
        return any(getattr(self, name) > 0 for name in WEIGHTS)

    @property
    def couples_batch(self) -> bool:
        """Return whether the loss is more than a sum over instances. If so, accumulation would change it."""
        return bool(self.couples_batch_why)

    @property
    def couples_batch_why(self) -> str:
        """Say what couples the instances of a batch, and which settings would not. Empty if nothing does."""
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
