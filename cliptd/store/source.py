"""Where a student's targets come from: anything that gives embeddings of images and texts.

Three sources have one surface (`image_embeds`, `region_embeds`, `text_embeds`, `image_mean`): `LiveSource`,
here, asks the teacher each time; `TeacherStore` (cliptd.store) reads what was written once, and `StoreWriter`
(cliptd.store.writer) writes what is missing. Words are texts too: the caller formats the prompt. All return
float32 on the CPU.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from cliptd.data.images import AnyImage, open_image
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import ImageError, Teacher
from cliptd.utils.finite import check_finite


class Source(Protocol):
    """What a distillation collator needs of a teacher, loaded or not."""

    embed_dim: int
    logit_scale: float
    logit_bias: float | None

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the teacher."""

    def image_embeds(self, keys: Sequence[str], images: Sequence["AnyImage | None"]) -> Tensor:
        """(n, dim) of unit length. `images[i]` is opened only if `keys[i]` must be encoded."""

    def region_embeds(self, keys: Sequence[str], regions: Sequence["AnyImage | None"]) -> Tensor:
        """As image_embeds, of parts of images: they do not count in image_mean."""

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        """(n, dim) of unit length."""

    def image_mean(self) -> Tensor:
        """(dim,) mean image embedding, not normalised again."""


def encode_images(
    teacher: Teacher | TeacherEnsemble, keys: Sequence[str], images: Sequence["AnyImage | None"]
) -> Tensor:
    """Open and encode images, a teacher's batch at a time; every error names the key."""
    parts = [torch.zeros(0, teacher.embed_dim)]
    for start in range(0, len(keys), teacher.batch_size):
        names = list(keys[start : start + teacher.batch_size])
        opened = [_open(name, images[start + i]) for i, name in enumerate(names)]
        parts.append(check_finite(teacher.encode_images(opened, names).cpu(), "image", names, teacher.name))
    return torch.cat(parts)


def _open(key: str, image: "AnyImage | None") -> Image.Image | Tensor:
    if image is None:
        raise ImageError(key, "it must be encoded, but no image was given (None)")
    try:
        return open_image(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(key, error) from error
