"""Any mix of the losses between a student's and a teacher's embeddings, with what exists in training only."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from cliptd.embedding import losses

ObjectiveName = Literal[
    "affinity", "feature", "relation", "interactive", "contrastive", "sigmoid", "clip_kd", "dime-fm"
]
INTERACTIVE_SCALE = 1 / 0.07
"""Where CLIP-KD's own scale of the interactive loss starts."""


@dataclass(frozen=True)
class LossWeights:
    """How much each loss counts; 0 leaves it out.

    Args:
        affinity: affinity mimicking (TinyCLIP, arXiv 2309.12314).
        feature: feature mimicking of images and of texts (CLIP-KD, arXiv 2307.12732, which weighs it by 2,000).
        relation: contrastive relational distillation (CLIP-KD).
        interactive: interactive contrastive learning (CLIP-KD).
        contrastive: CLIP's own loss, without the teacher (arXiv 2103.00020).
        sigmoid: SigLIP's own loss, without the teacher (arXiv 2303.15343); the student has a logit bias.
        dime_fm_image, dime_fm_text: DIME-FM (arXiv 2303.18232) of the one tower and, roles swapped, of the other;
            images and texts need be no pairs.

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
        """Whether any loss looks at the teacher."""
        return bool(
            self.affinity or self.feature or self.relation or self.interactive or self.takes_the_place
        )

    @property
    def needs_pairs(self) -> tuple[str, ...]:
        """The losses for which a text must be true of its image."""
        return tuple(name for name in ("contrastive", "sigmoid", "interactive") if getattr(self, name))

    @property
    def compares_widths(self) -> bool:
        """Whether a loss compares a projection of a student's embedding with a teacher's."""
        return bool(self.feature or self.interactive)

    def trains_scale(self, affinity_scale: float | None) -> bool:
        """Whether any loss trains the student's logit scale."""
        own_affinity = self.affinity and affinity_scale is None
        return bool(self.contrastive or self.sigmoid or self.relation or own_affinity)

    @property
    def takes_the_place(self) -> bool:
        """Whether a tower takes the place of the teacher's and needs its width."""
        return bool(self.dime_fm_image or self.dime_fm_text)

    def reads(self, tower: Literal["image", "text"]) -> bool:
        """Whether any loss looks at this tower of the student."""
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
"""DIME-FM's are those of the towers that learn: see `cliptd.embedding.distillation.Distillation.loss_weights`."""


@dataclass(frozen=True)
class DimeFm:
    """DIME-FM's three losses; see `cliptd.embedding.losses.dime_fm`."""

    logit_scale: float = 100.0
    """Of teacher and student."""
    vl_weight: float = 0.7
    """Of images against sentences."""
    pvl_weight: float = 0.3
    """Of the student against the teacher's embeddings of its own kind."""
    udist_weight: float = 0.0
    """Of distances within the student's own kind."""
    vl_temperature: float = 1.0
    """Divides the logit scale."""
    pvl_temperature: float = 3.0
    """Divides the logit scale."""
    udist_temperature: float = 7.0
    """Divides the logit scale."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value) or value < 0 or (value == 0 and not name.endswith("_weight")):
                least = "at least" if name.endswith("_weight") else "above"
                raise ValueError(f"{name} is {value}, expected a finite number {least} 0")
        if not (self.vl_weight or self.pvl_weight or self.udist_weight):
            raise ValueError("vl_weight, pvl_weight and udist_weight are all 0; give one a weight")


class Embeds(NamedTuple):
    """Embeddings of a batch of pairs, (pairs, dim) each, normalised or not, with the model's scale and bias.

    image or text None: no loss reads it.
    """

    image: Tensor | None
    text: Tensor | None
    scale: Tensor | float
    bias: Tensor | float | None = None


class EmbeddingObjective(nn.Module):
    """Σ weight · loss, with projections to the teacher's width where a loss needs them.

    The projections, linear and without bias, and the interactive loss's scale are trained with the student and are
    no part of it.

    Args:
        weights: of the losses.
        student_dim, teacher_dim: widths of the embeddings.
        affinity_scale: of both models in affinity mimicking; None: each model's own.
        dime_fm: how DIME-FM's losses are mixed.

    Raises:
        ValueError: DIME-FM of a student of another width; from forward, if the teacher's embeddings or a sigmoid's bias
            are missing.
    """

    def __init__(
        self,
        weights: LossWeights,
        *,
        student_dim: int,
        teacher_dim: int,
        affinity_scale: float | None = losses.AFFINITY_SCALE,
        dime_fm: DimeFm | None = None,
    ) -> None:
        super().__init__()
        if weights.takes_the_place and student_dim != teacher_dim:
            raise ValueError(
                f"the student's embeddings are {student_dim} wide and the teacher's {teacher_dim}, but with DIME-FM "
                f"its tower takes the place of the teacher's; give the student embed_dim {teacher_dim}"
            )
        self.weights, self.affinity_scale = weights, affinity_scale
        self.dime_fm = dime_fm or DimeFm()
        self.project_image, self.project_text = nn.Identity(), nn.Identity()
        if weights.compares_widths and student_dim != teacher_dim:
            self.project_image, self.project_text = (
                nn.Linear(student_dim, teacher_dim, bias=False) for _ in range(2)
            )
        if weights.interactive:
            self.interactive_log_scale = nn.Parameter(torch.tensor(math.log(INTERACTIVE_SCALE)))

    def forward(self, student: Embeds, teacher: Embeds | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each loss by its name, unweighted and without gradient."""
        found = {}
        if self.weights.contrastive:
            found["contrastive"] = losses.contrastive(
                image=student.image, text=student.text, scale=student.scale
            )
        if self.weights.sigmoid:
            if student.bias is None:
                raise ValueError("the sigmoid loss needs a student with a logit bias (a SigLIP); it has none")
            found["sigmoid"] = losses.sigmoid(
                image=student.image, text=student.text, scale=student.scale, bias=student.bias
            )
        if self.weights.needs_teacher:
            if teacher is None:
                raise ValueError(
                    "the batch lacks the teacher's embeddings, which the objective compares with"
                )
            found |= self._with_teacher(student, teacher)
        total = sum(getattr(self.weights, name) * loss for name, loss in found.items())
        return total, {name: loss.detach() for name, loss in found.items()}

    def _with_teacher(self, student: Embeds, teacher: Embeds) -> dict[str, Tensor]:
        found, weights = {}, self.weights
        both = {
            "student_image": student.image,
            "student_text": student.text,
            "teacher_image": teacher.image,
            "teacher_text": teacher.text,
        }
        own_scales = {"student_scale": student.scale, "teacher_scale": teacher.scale}
        if weights.affinity:
            fixed = self.affinity_scale is not None
            scales = dict.fromkeys(own_scales, self.affinity_scale) if fixed else own_scales
            found["affinity"] = losses.affinity_mimicking(**both, **scales)
        if weights.relation:
            found["relation"] = losses.contrastive_relation(**both, **own_scales)
        if weights.dime_fm_image:
            found["dime_fm_image"] = self._dime_fm(student.image, teacher.image, teacher.text)
        if weights.dime_fm_text:
            found["dime_fm_text"] = self._dime_fm(student.text, teacher.text, teacher.image)
        if weights.compares_widths:
            image, text = self.project_image(student.image), self.project_text(student.text)
            if weights.feature:
                found["feature"] = losses.feature_mimicking(
                    student=image, teacher=teacher.image
                ) + losses.feature_mimicking(student=text, teacher=teacher.text)
            if weights.interactive:
                found["interactive"] = losses.interactive_contrastive(
                    **{**both, "student_image": image, "student_text": text},
                    scale=self.interactive_log_scale.exp(),
                )
        return found

    def _dime_fm(self, student: Tensor, teacher: Tensor, others: Tensor) -> Tensor:
        """Of the tower that sees what `teacher` embeds; others: what the other tower does."""
        return losses.dime_fm(
            student_image=student, teacher_image=teacher, teacher_text=others, **vars(self.dime_fm)
        )
