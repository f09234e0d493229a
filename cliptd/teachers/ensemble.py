"""Several teachers as one."""

from collections.abc import Sequence
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor, nn

from cliptd.teachers.fingerprints import fingerprint_of_members
from cliptd.teachers.similarity import Similarity
from cliptd.teachers.teacher import ImageError, Teacher, image_name


class TeacherEnsemble(Similarity, nn.Module):
    """Several teachers as one. Their embeddings are concatenated and divided by √members, so they keep unit length.

    The ensemble's cosine is then the mean of its members' cosines. `logit_scale` is the mean of theirs, and so is
    `logit_bias` if every member has one. MobileCLIP (arXiv 2311.17049) stores its two teachers this way.
    """

    members: Sequence[Teacher]
    """The teachers, in the order of their embeddings."""

    def __init__(self, members: Sequence[Teacher]):
        super().__init__()
        if not members:
            raise ValueError("members is empty, expected at least one teacher")
        self.register_module("members", nn.ModuleList(members))
        self.name = ",".join(member.name for member in members)
        self.embed_dim = sum(member.embed_dim for member in members)
        self.batch_size = min(member.batch_size for member in members)
        self.logit_scale = sum(member.logit_scale for member in members) / len(members)
        biases = [member.logit_bias for member in members if member.logit_bias is not None]
        self.logit_bias = sum(biases) / len(biases) if len(biases) == len(members) else None

    @property
    def device(self) -> torch.device:
        """Return the device of the first member, where the embeddings are joined."""
        return self.members[0].device

    @cached_property
    def fingerprint(self) -> str:
        """Return "sha256:" and 16 hex digits of the members' fingerprints, in order."""
        return fingerprint_of_members(member.fingerprint for member in self.members)

    def encode_images(
        self, images: Sequence[Image.Image | Tensor] | Tensor, names: Sequence[str] | None = None
    ) -> Tensor:
        """Embed images: (n, sum of dims) float32 of unit length.

        Args:
            images: PIL images or uint8 tensors, which each member transforms for itself.
            names: the name of each image in an error; by default its file name or position.

        Raises:
            ImageError: an image cannot be decoded, or is a float tensor and there are several members.
        """
        for i, image in enumerate(images):
            if isinstance(image, Tensor) and image.is_floating_point() and len(self.members) > 1:
                raise ImageError(
                    names[i] if names else image_name(image, i),
                    "a float tensor is one teacher's transform; give an ensemble PIL images or uint8 tensors",
                )
        return self._join([member.encode_images(images, names) for member in self.members])

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: (n, sum of dims) float32 of unit length."""
        return self._join([member.encode_texts(texts) for member in self.members])

    def split(self, embeds: Tensor) -> list[Tensor]:
        """Return each member's own embeddings, (…, dim) of unit length, from the ensemble's (…, sum of dims)."""
        parts = embeds.split([member.embed_dim for member in self.members], dim=-1)
        return [part * len(self.members) ** 0.5 for part in parts]

    def _join(self, parts: list[Tensor]) -> Tensor:
        return torch.cat([part.to(self.device) for part in parts], dim=-1) / len(parts) ** 0.5
