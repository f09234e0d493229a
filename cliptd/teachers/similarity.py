"""Logits and probabilities that an image and a text belong together, from their embeddings."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class HasLogitScale(Protocol):
    """A teacher, or a source of its embeddings."""

    logit_scale: float
    logit_bias: float | None


def logits_of_cosines(teacher: HasLogitScale, cosines: Tensor) -> Tensor:
    """Return `logit_scale` · cosine (+ `logit_bias`), of the shape and type of the cosines."""
    return teacher.logit_scale * cosines + (teacher.logit_bias or 0.0)


class Similarity:
    """The logits of a teacher, and of every source of its embeddings."""

    logit_scale: float
    logit_bias: float | None

    @property
    def is_sigmoid(self) -> bool:
        """Return true for a SigLIP-like teacher, whose probability of a pair does not depend on other candidates."""
        return self.logit_bias is not None

    def match_logits(self, image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
        """Return the logits that images and texts belong together, which training made large for matching pairs.

        Args:
            image_embeds: (batch, dim), normalised or not.
            text_embeds: (batch, candidates, dim) if each image has its own candidates, else (texts, dim).

        Returns:
            (batch, candidates) or (batch, texts).
        """
        image_embeds, text_embeds = F.normalize(image_embeds, dim=-1), F.normalize(text_embeds, dim=-1)
        shared = text_embeds.dim() == 2
        cosines = torch.einsum("bd,cd->bc" if shared else "bd,bcd->bc", image_embeds, text_embeds)
        return logits_of_cosines(self, cosines)

    def match_probability(self, image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
        """Return the probability that image and text belong together. The shapes are those of `match_logits`.

        For a CLIP it is a softmax over the given candidates, so rows sum to 1. For a SigLIP it is each pair's sigmoid.
        """
        logits = self.match_logits(image_embeds, text_embeds)
        return logits.sigmoid() if self.is_sigmoid else logits.softmax(dim=-1)
