"""The teacher→student distiller of dual encoders: an open_clip student, a teacher live or out of a store."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from cliptd.embedding.objective import EmbeddingObjective, Embeds
from cliptd.embedding.pruning.masks import MaskedDualEncoder, Tower
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import MAX_LOGIT_SCALE, Teacher


class StudentInTraining(nn.Module):
    """A dual encoder whose forward returns {"loss"}, for `cliptd.training.train`: frozen towers, a bounded scale.

    The loss is that of the batch of all processes, so it cannot be accumulated over micro-batches.

    Args:
        student: an open_clip model (CLIP or CustomTextCLIP), or one seen through masks.
        frozen: towers of the student that stay as they are, in eval mode.
        trains_scale: whether a loss trains the student's logit scale, which is then kept in bounds.
    """

    couples_batch = True
    couples_batch_why = "the losses compare every image with every text of the batch"

    def __init__(
        self, student: nn.Module, *, frozen: tuple[Tower, ...] = (), trains_scale: bool = True
    ) -> None:
        super().__init__()
        self.student, self.frozen, self.trains_scale = student, frozen, trains_scale
        self.last_terms: dict[str, Tensor] = {}
        for part in self._frozen_parts():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Frozen towers stay in eval mode."""
        super().train(mode)
        for part in self._frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
        return self

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep a logit scale that is trained from 1 to 100, as CLIP's authors do after each step."""
        if self.trains_scale:
            self.student.logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))

    def _frozen_parts(self) -> list[nn.Module | nn.Parameter]:
        masked = isinstance(self.student, MaskedDualEncoder)
        model, parts = self.student.clip if masked else self.student, []
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
        if masked:
            parts += [masks for tower, masks in self.student.masks.items() if tower in self.frozen]
        return parts


class EmbeddingDistiller(StudentInTraining):
    """A student that learns from pairs and its teacher's embeddings of them.

    The teacher, if it is live, is no part of this module: it is neither trained nor saved.

    Args:
        student: an open_clip model (CLIP or CustomTextCLIP), or one seen through masks, whose price is added.
        objective: see there.
        teacher: asked at every step for what `StudentTeacherCollator` prepared; None: batches bring its embeddings, out
            of a store, or the objective needs none.
        teacher_scale: its logit scale, with a store; a live teacher's is its own.
        frozen: towers of the student that stay as they are, in eval mode.

    Raises:
        ValueError: from forward, if a batch brings neither the teacher's embeddings nor what a live teacher reads.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: EmbeddingObjective,
        *,
        teacher: Teacher | TeacherEnsemble | None = None,
        teacher_scale: float | None = None,
        frozen: tuple[Tower, ...] = (),
    ) -> None:
        trains_scale = objective.weights.trains_scale(objective.affinity_scale)
        super().__init__(student, frozen=frozen, trains_scale=trains_scale)
        self.objective = objective
        self.__dict__["teacher"] = teacher  # no submodule
        self.teacher_scale = teacher.logit_scale if teacher is not None else teacher_scale

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        teacher_image: Tensor | None = None,
        teacher_text: Tensor | None = None,
        teacher_inputs: list[dict[str, Any]] | None = None,
    ) -> dict[str, Tensor]:
        """The loss of a batch of pairs.

        Args:
            pixel_values: (pairs, 3, height, width), by the student's transform.
            input_ids: (pairs, tokens), by the student's tokenizer.
            teacher_image, teacher_text: (pairs, dim) embeddings out of a store.
            teacher_inputs: {"pixels", "tokens"} for each member of a live teacher, by its own transform and
                tokenizer; what is missing reads as the student's.
        """
        self.clamp_logit_scale()
        reads = self.objective.weights.reads
        student = Embeds(
            self.student.encode_image(pixel_values) if reads("image") else None,
            self.student.encode_text(input_ids) if reads("text") else None,
            self.student.logit_scale.exp(),
            getattr(self.student, "logit_bias", None),
        )
        teacher = None
        if self.objective.weights.needs_teacher:
            if teacher_image is None and self.teacher is not None and teacher_inputs is not None:
                teacher_image, teacher_text = (
                    x.to(pixel_values.device) for x in self._ask(teacher_inputs, pixel_values, input_ids)
                )
            if teacher_image is None or teacher_text is None:
                raise ValueError(
                    "the batch brings neither teacher_image and teacher_text nor, with a live teacher, teacher_inputs; "
                    "collate it with StudentTeacherCollator"
                )
            teacher = Embeds(teacher_image, teacher_text, self.teacher_scale)
        loss, self.last_terms = self.objective(student, teacher)
        if self.training and isinstance(self.student, MaskedDualEncoder):
            price = self.student.next_price()
            loss, self.last_terms["sparsity_price"] = loss + price, price.detach()
        return {"loss": loss}

    def _ask(self, inputs: list[dict[str, Any]], pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        teacher = self.teacher
        members = list(teacher.members) if isinstance(teacher, TeacherEnsemble) else [teacher]
        images, texts = [], []
        for member, columns in zip(members, inputs, strict=True):
            images.append(member.embed_pixels(columns.get("pixels", pixels)))
            texts.append(member.embed_tokens(columns.get("tokens", tokens)))
        return tuple(torch.cat(parts, dim=-1) / len(members) ** 0.5 for parts in (images, texts))
