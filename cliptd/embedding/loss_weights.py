"""The weights of the losses between a student's and a teacher's embeddings; importing them costs no torch."""

import math
from dataclasses import dataclass

from cliptd.embedding.options import ObjectiveName, Tower

AFFINITY_SCALE = 50.0
"""The logit scale of student and teacher in affinity mimicking, as in TinyCLIP's public recipe."""


@dataclass(frozen=True)
class LossWeights:
    """The weight of each loss; a loss with weight 0 is not computed.

    Args:
        affinity: affinity mimicking (TinyCLIP, arXiv 2309.12314).
        feature: feature mimicking of images and of texts (CLIP-KD, arXiv 2307.12732, which gives it weight 2,000).
        relation: contrastive relational distillation (CLIP-KD).
        interactive: interactive contrastive learning (CLIP-KD).
        contrastive: CLIP's own loss, without the teacher (arXiv 2103.00020).
        sigmoid: SigLIP's own loss, without the teacher (arXiv 2303.15343). The student needs a logit bias.
        dime_fm_image: DIME-FM for the image tower (arXiv 2303.18232). Images and texts need not be pairs.
        dime_fm_text: the same for the text tower, with the roles of images and texts swapped.

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """

    affinity: float = 0.0
    feature: float = 0.0
    relation: float = 0.0
    interactive: float = 0.0
    contrastive: float = 0.0
    sigmoid: float = 0.0
    dime_fm_image: float = 0.0
    dime_fm_text: float = 0.0

    def __post_init__(self) -> None:
        weights = vars(self)
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {name} is {weight}, expected a finite number of at least 0")
        if not any(weights.values()):
            raise ValueError(f"every loss has weight 0; give one of {', '.join(weights)} a weight")

    @property
    def needs_teacher(self) -> bool:
        """Return whether any loss reads the teacher's embeddings."""
        return bool(
            self.affinity or self.feature or self.relation or self.interactive or self.takes_the_place
        )

    @property
    def needs_pairs(self) -> tuple[str, ...]:
        """Return the names of the losses that need texts that are true of their images."""
        return tuple(name for name in ("contrastive", "sigmoid", "interactive") if getattr(self, name))

    @property
    def compares_widths(self) -> bool:
        """Return whether any loss compares an embedding of the student with one of the teacher.

        Embeddings of another width are projected first.
        """
        return bool(self.feature or self.interactive)

    def trains_scale(self, affinity_scale: float | None) -> bool:
        """Return whether any loss trains the student's logit scale; affinity mimicking does so at its own scale."""
        own_affinity = self.affinity and affinity_scale is None
        return bool(self.contrastive or self.sigmoid or self.relation or own_affinity)

    @property
    def takes_the_place(self) -> bool:
        """Return whether a tower takes the place of the teacher's, as with DIME-FM. It then needs the same width."""
        return bool(self.dime_fm_image or self.dime_fm_text)

    def reads(self, tower: Tower) -> bool:
        """Return whether any loss reads the embeddings of this tower of the student."""
        other = "dime_fm_text" if tower == "image" else "dime_fm_image"
        return any(weight for name, weight in vars(self).items() if name != other)


OBJECTIVES: dict[ObjectiveName, LossWeights] = {
    "affinity": LossWeights(affinity=1.0),
    "feature": LossWeights(feature=2000.0),
    "relation": LossWeights(relation=1.0),
    "interactive": LossWeights(interactive=1.0),
    "contrastive": LossWeights(contrastive=1.0),
    "sigmoid": LossWeights(sigmoid=1.0),
    "clip_kd": LossWeights(contrastive=1.0, feature=2000.0, relation=1.0, interactive=1.0),
}
"""The loss weights of each objective. DIME-FM's depend on the towers that learn: `Distillation.loss_weights`."""


@dataclass(frozen=True)
class DimeFm:
    """The mix of DIME-FM's three losses; see `cliptd.embedding.losses.dime_fm`."""

    logit_scale: float = 100.0
    """The logit scale of teacher and student."""
    vl_weight: float = 0.7
    """The weight of the loss between images and sentences."""
    pvl_weight: float = 0.3
    """The weight of the loss between the student's and the teacher's embeddings of one kind."""
    udist_weight: float = 0.0
    """The weight of the loss on distances between the student's own embeddings."""
    vl_temperature: float = 1.0
    """Divides the logit scale in the loss between images and sentences."""
    pvl_temperature: float = 3.0
    """Divides the logit scale in the loss between the student's and the teacher's embeddings of one kind."""
    udist_temperature: float = 7.0
    """Divides the logit scale in the loss on distances."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value) or value < 0 or (value == 0 and not name.endswith("_weight")):
                least = "at least" if name.endswith("_weight") else "above"
                raise ValueError(f"{name} is {value}, expected a finite number {least} 0")
        if not (self.vl_weight or self.pvl_weight or self.udist_weight):
            raise ValueError("vl_weight, pvl_weight and udist_weight are all 0; give one a weight")
