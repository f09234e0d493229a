"""Any mix of the losses between a student's and a teacher's embeddings, with the modules that only training needs."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cliptd.embedding import losses
from cliptd.embedding.loss_weights import AFFINITY_SCALE, DimeFm, LossWeights

INTERACTIVE_SCALE = 1 / 0.07
"""The start value of CLIP-KD's own logit scale for the interactive loss."""


class Embeds(NamedTuple):
    """A model's embeddings of a batch of pairs, with the model's logit scale and bias.

    image, text: (pairs, dim), normalised or not. None: no loss reads them.
    """

    image: Tensor | None
    text: Tensor | None
    scale: Tensor | float
    bias: Tensor | float | None = None

    def of_images(self) -> Tensor:
        """Return the images' embeddings. Raises ValueError if there are none."""
        if self.image is None:
            raise ValueError("a loss reads the images' embeddings, found None; give them")
        return self.image

    def of_texts(self) -> Tensor:
        """Return the texts' embeddings. Raises ValueError if there are none."""
        if self.text is None:
            raise ValueError("a loss reads the texts' embeddings, found None; give them")
        return self.text


class EmbeddingObjective(nn.Module):
    """Σ weight · loss, with projections to the teacher's width where a loss needs them.

    The projections are linear and have no bias. They and the interactive loss's scale are trained with the student but
    are no part of it.

    Args:
        weights: the weights of the losses.
        student_dim, teacher_dim: the widths of the embeddings.
        affinity_scale: the logit scale of both models in affinity mimicking. None: each model's own.
        dime_fm: the mix of DIME-FM's losses.

    Raises:
        ValueError: the student has another width than the teacher and a DIME-FM loss; from forward, if the teacher's
            embeddings or a sigmoid loss's bias are missing.
    """

    def __init__(
        self,
        weights: LossWeights,
        *,
        student_dim: int,
        teacher_dim: int,
        affinity_scale: float | None = AFFINITY_SCALE,
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
        self.project_image: nn.Module = nn.Identity()
        self.project_text: nn.Module = nn.Identity()
        if weights.compares_widths and student_dim != teacher_dim:
            self.project_image = nn.Linear(student_dim, teacher_dim, bias=False)
            self.project_text = nn.Linear(student_dim, teacher_dim, bias=False)
        if weights.interactive:
            self.interactive_log_scale = nn.Parameter(torch.tensor(math.log(INTERACTIVE_SCALE)))

    def forward(self, student: Embeds, teacher: Embeds | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and each loss by its name, unweighted and without gradient."""
        found: dict[str, Tensor] = {}
        if self.weights.contrastive:
            found["contrastive"] = losses.contrastive(
                image=student.of_images(), text=student.of_texts(), scale=student.scale
            )
        if self.weights.sigmoid:
            if student.bias is None:
                raise ValueError("the sigmoid loss needs a student with a logit bias (a SigLIP); it has none")
            found["sigmoid"] = losses.sigmoid(
                image=student.of_images(), text=student.of_texts(), scale=student.scale, bias=student.bias
            )
        if self.weights.needs_teacher:
            if teacher is None:
                raise ValueError("the batch lacks the teacher's embeddings, which the objective reads")
            found |= self._with_teacher(student, teacher)
        total = next(iter(found.values())).new_zeros(())
        for name, loss in found.items():
            total = total + getattr(self.weights, name) * loss
        return total, {name: loss.detach() for name, loss in found.items()}

    def _with_teacher(self, student: Embeds, teacher: Embeds) -> dict[str, Tensor]:
        found, weights = {}, self.weights
        teacher_image, teacher_text = teacher.of_images(), teacher.of_texts()
        if weights.affinity:
            found["affinity"] = losses.affinity_mimicking(
                student_image=student.of_images(),
                student_text=student.of_texts(),
                teacher_image=teacher_image,
                teacher_text=teacher_text,
                student_scale=student.scale if self.affinity_scale is None else self.affinity_scale,
                teacher_scale=teacher.scale if self.affinity_scale is None else self.affinity_scale,
            )
        if weights.relation:
            found["relation"] = losses.contrastive_relation(
                student_image=student.of_images(),
                student_text=student.of_texts(),
                teacher_image=teacher_image,
                teacher_text=teacher_text,
                student_scale=student.scale,
                teacher_scale=teacher.scale,
            )
        if weights.dime_fm_image:
            found["dime_fm_image"] = self._dime_fm(student.of_images(), teacher_image, teacher_text)
        if weights.dime_fm_text:
            found["dime_fm_text"] = self._dime_fm(student.of_texts(), teacher_text, teacher_image)
        if weights.compares_widths:
            image = self.project_image(student.of_images())
            text = self.project_text(student.of_texts())
            if weights.feature:
                found["feature"] = losses.feature_mimicking(
                    student=image, teacher=teacher_image
                ) + losses.feature_mimicking(student=text, teacher=teacher_text)
            if weights.interactive:
                found["interactive"] = losses.interactive_contrastive(
                    student_image=image,
                    student_text=text,
                    teacher_image=teacher_image,
                    teacher_text=teacher_text,
                    scale=self.interactive_log_scale.exp(),
                )
        return found

    def _dime_fm(self, student: Tensor, teacher: Tensor, others: Tensor) -> Tensor:
        """Return DIME-FM's loss of one tower.

        Args:
            student, teacher: both models' embeddings of this tower's inputs.
            others: the teacher's embeddings of the other tower's inputs.
        """
        return losses.dime_fm(
            student_image=student, teacher_image=teacher, teacher_text=others, **vars(self.dime_fm)
        )
