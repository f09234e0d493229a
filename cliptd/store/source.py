"""Sources of the teacher's embeddings of images, regions and texts, which are a student's targets.

There are three, with the same methods:
- `LiveSource` asks the teacher each time;
- `TeacherStore` reads the embeddings that a store holds;
- `StoreWriter` reads them too, and computes and stores those that are missing.

All return float32 on the CPU. Words are texts too, for which the caller formats the prompt.
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
    """The embeddings of a teacher, as a distillation collator needs them."""

    embed_dim: int
    logit_scale: float
    logit_bias: float | None

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the teacher."""

    def image_embeds(self, keys: Sequence[str], images: Sequence["AnyImage | None"]) -> Tensor:
        """Return (n, dim) of unit length. `images[i]` is opened only if `keys[i]` must be encoded."""

    def region_embeds(self, keys: Sequence[str], regions: Sequence["AnyImage | None"]) -> Tensor:
        """Return (n, dim) of unit length for parts of images, which do not count in `image_mean`."""

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        """Return (n, dim) of unit length."""

    def image_mean(self) -> Tensor:
        """Return (dim,), the mean image embedding, which is not normalised again."""


def encode_images(
    teacher: Teacher | TeacherEnsemble, keys: Sequence[str], images: Sequence["AnyImage | None"]
) -> Tensor:
    """Open and encode images, in batches of the teacher's size: (n, dim) float32 on the CPU.

    Raises:
        ImageError: an image is None or cannot be read; it names the key.
        ValueError: an embedding is not finite; the message names the key.
    """
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
