"""Modules that compute the loss of an open_clip student from a teacher's embeddings, live or out of a store."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from cliptd.embedding.inheritance.towers import OpenClipModel
from cliptd.embedding.objective import EmbeddingObjective, Embeds
from cliptd.embedding.options import Tower
from cliptd.embedding.pruning.masked_model import MaskedDualEncoder
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import MAX_LOGIT_SCALE, Teacher


class StudentInTraining(nn.Module):
    """The base of modules that `cliptd.training.train` trains: a dual encoder with frozen towers and a bounded scale.

    Subclasses have a forward that returns {"loss"}. The loss is that of the batch of all processes, so it cannot be
    accumulated over micro-batches.

    Args:
        student: an open_clip model (CLIP or CustomTextCLIP), or one that computes through masks.
        frozen: towers of the student that are not trained and stay in eval mode.
        trains_scale: If true, a loss trains the student's logit scale, which is then kept in bounds.
    """

    student: OpenClipModel | MaskedDualEncoder

    couples_batch = True
    couples_batch_why = "the losses compare every image with every text of the batch"

    def __init__(
        self,
        student: OpenClipModel | MaskedDualEncoder,
        *,
        frozen: tuple[Tower, ...] = (),
        trains_scale: bool = True,
    ) -> None:
        super().__init__()
        self.student, self.frozen, self.trains_scale = student, frozen, trains_scale
        self.last_terms: dict[str, Tensor] = {}
        for part in self._frozen_parts():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but the frozen towers, which stay in eval mode."""
        super().train(mode)
        for part in self._frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
        return self

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Clamp a logit scale that is trained to 1 … 100, as CLIP's authors do after each step."""
        if self.trains_scale:
            self.student.logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))

    def _frozen_parts(self) -> list[nn.Module | nn.Parameter]:
        masked = self.student if isinstance(self.student, MaskedDualEncoder) else None
        model: OpenClipModel = self.student if masked is None else masked.clip
        parts: list[nn.Module | nn.Parameter] = []
        if "image" in self.frozen:
            parts.append(model.visual)
        if "text" in self.frozen:
            named = (
                "text",
                "transformer",
                "token_embedding",
                "positional_embedding",
                "ln_final",
                "text_projection",
            )
            found = (getattr(model, name, None) for name in named)
            parts += [part for part in found if isinstance(part, nn.Module | nn.Parameter)]
        if masked is not None:
            parts += [masks for tower, masks in masked.tower_masks().items() if tower in self.frozen]
        return parts


class EmbeddingDistiller(StudentInTraining):
    """A student that learns from pairs and its teacher's embeddings of them.

    A live teacher is no part of this module, so it is neither trained nor saved. The price of a student's masks is
    added to the loss.

    Args:
        student: an open_clip model (CLIP or CustomTextCLIP), or one that computes through masks.
        objective: computes the loss.
        teacher: embeds in every step the inputs that `StudentTeacherCollator` prepared. None: the batches hold its
            embeddings, or the objective needs none.
        teacher_scale: the teacher's logit scale if the batches hold its embeddings.
        frozen: towers of the student that are not trained and stay in eval mode.

    Raises:
        ValueError: from forward, if a batch holds neither the teacher's embeddings nor the inputs of a live teacher.
    """

    teacher: Teacher | TeacherEnsemble | None

    def __init__(
        self,
        student: OpenClipModel | MaskedDualEncoder,
        objective: EmbeddingObjective,
        *,
        teacher: Teacher | TeacherEnsemble | None = None,
        teacher_scale: float | None = None,
        frozen: tuple[Tower, ...] = (),
    ) -> None:
        trains_scale = objective.weights.trains_scale(objective.affinity_scale)
        super().__init__(student, frozen=frozen, trains_scale=trains_scale)
        self.objective = objective
        self.__dict__["teacher"] = teacher  # not registered as a submodule
        self.teacher_scale = teacher.logit_scale if teacher is not None else teacher_scale

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        teacher_image: Tensor | None = None,
        teacher_text: Tensor | None = None,
        teacher_inputs: list[dict[str, Any]] | None = None,
    ) -> dict[str, Tensor]:
        """Return {"loss"}, the loss of a batch of pairs, a scalar.

        Args:
            pixel_values: (pairs, 3, height, width), by the student's transform.
            input_ids: (pairs, tokens), by the student's tokenizer.
            teacher_image, teacher_text: (pairs, dim) embeddings out of a store.
            teacher_inputs: {"pixels", "tokens"} for each member of a live teacher, by its own transform and
                tokenizer. If one is missing, the member reads the student's.
        """
        self.clamp_logit_scale()
        reads = self.objective.weights.reads
        student = Embeds(
            self.student.encode_image(pixel_values) if reads("image") else None,
            self.student.encode_text(input_ids) if reads("text") else None,
            self.student.logit_scale.exp(),
            self.student.logit_bias,
        )
        teacher = None
        if self.objective.weights.needs_teacher:
            if teacher_image is None and self.teacher is not None and teacher_inputs is not None:
                found = self._ask(teacher_inputs, pixel_values, input_ids)
                teacher_image, teacher_text = (embeds.to(pixel_values.device) for embeds in found)
            if teacher_image is None or teacher_text is None:
                raise ValueError(
                    "the batch holds neither teacher_image and teacher_text nor, with a live teacher, teacher_inputs; "
                    "collate it with StudentTeacherCollator"
                )
            if self.teacher_scale is None:
                raise ValueError(
                    "teacher_scale is None, expected the logit scale of the teacher of the embeddings"
                )
            teacher = Embeds(teacher_image, teacher_text, self.teacher_scale)
        loss, self.last_terms = self.objective(student, teacher)
        if self.training and isinstance(self.student, MaskedDualEncoder):
            price = self.student.next_price()
            loss, self.last_terms["sparsity_price"] = loss + price, price.detach()
        return {"loss": loss}

    def _ask(self, inputs: list[dict[str, Any]], pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the live teacher's embeddings of images and texts, (pairs, dim) of unit length."""
        teacher = self.teacher
        assert teacher is not None  # forward asks a live teacher only
        images, texts = [], []
        for member, columns in zip(teacher.members, inputs, strict=True):
            images.append(member.embed_pixels(columns.get("pixels", pixels)))
            texts.append(member.embed_tokens(columns.get("tokens", tokens)))
        length = len(teacher.members) ** 0.5
        return torch.cat(images, dim=-1) / length, torch.cat(texts, dim=-1) / length
