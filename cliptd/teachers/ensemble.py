"""Several teachers as one."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cliptd.teachers.teacher import ImageError, Similarity, Teacher, image_name


class TeacherEnsemble(Similarity, nn.Module):
    """Several teachers as one: embeddings are concatenated and divided by √members, so they keep unit length.

    The ensemble's cosine is then the mean of its members' cosines, and `logit_scale` (and `logit_bias`,
    where every member has one) are the means of theirs. MobileCLIP (arXiv 2311.17049) stores its two
    teachers this way.
    """

    members: Sequence[Teacher]
    """The teachers, whose embeddings are in this order."""

    def __init__(self, members: Sequence[Teacher]):
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one teacher, found none")
        self.register_module("members", nn.ModuleList(members))
        self.name = ",".join(member.name for member in members)
        self.embed_dim = sum(member.embed_dim for member in members)
        self.batch_size = min(member.batch_size for member in members)
        self.logit_scale = sum(member.logit_scale for member in members) / len(members)
        biases = [member.logit_bias for member in members if member.logit_bias is not None]
        self.logit_bias = sum(biases) / len(biases) if len(biases) == len(members) else None

    @property
    def device(self) -> torch.device:
        return self.members[0].device

    @cached_property
    def fingerprint(self) -> str:
        """ "sha256:" + 16 hex digits of the members' fingerprints, in order."""
        joined = " ".join(member.fingerprint for member in self.members)
        return "sha256:" + hashlib.sha256(joined.encode()).hexdigest()[:16]

    def encode_images(self, images: Sequence[Any] | Tensor, names: Sequence[str] | None = None) -> Tensor:
        """(n, sum of dims) float32 of unit length. Images are raw (PIL or uint8): each member transforms its
        own.
        """
        for i, image in enumerate(images):
            if isinstance(image, Tensor) and image.is_floating_point() and len(self.members) > 1:
                raise ImageError(
                    names[i] if names else image_name(image, i),
                    "a float tensor is one teacher's transform; give an ensemble PIL images or uint8",
                )
        return self._join([member.encode_images(images, names) for member in self.members])

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(n, sum of dims) float32 of unit length."""
        return self._join([member.encode_texts(texts) for member in self.members])

    def split(self, embeds: Tensor) -> list[Tensor]:
        """The members' own unit-length embeddings, (…, dim) each, out of the ensemble's (…, sum of dims)."""
        parts = embeds.split([member.embed_dim for member in self.members], dim=-1)
        return [part * len(self.members) ** 0.5 for part in parts]

    def _join(self, parts: list[Tensor]) -> Tensor:
        return torch.cat([part.to(self.device) for part in parts], dim=-1) / len(parts) ** 0.5
