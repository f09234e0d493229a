"""Where a student's targets come from: anything that gives embeddings of images and texts.

Three sources have one surface (`image_embeds`, `region_embeds`, `text_embeds`, `image_mean`): `LiveSource`,
here, asks the teacher each time; `TeacherStore` (cliptd.store) reads what was written once, and `StoreWriter`
(cliptd.store_writer) writes what is missing. Words are texts too: the caller formats the prompt. All return
float32 on the CPU.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from cliptd.dual_encoders import ImageError, Similarity, Teacher, TeacherEnsemble

Picture = Image.Image | Tensor | Callable[[], Image.Image | Tensor] | None


class Source(Protocol):
    """What a distillation collator needs of a teacher, loaded or not."""

    embed_dim: int
    fingerprint: str
    logit_scale: float
    logit_bias: float | None

    def image_embeds(self, keys: Sequence[str], images: Sequence[Picture]) -> Tensor:
        """(n, dim) of unit length. `images[i]` is opened only if `keys[i]` must be encoded."""

    def region_embeds(self, keys: Sequence[str], regions: Sequence[Picture]) -> Tensor:
        """As image_embeds, of parts of images: they do not count in image_mean."""

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        """(n, dim) of unit length."""

    def image_mean(self) -> Tensor:
        """(dim,) mean image embedding, not normalised again."""


def as_source(teacher_or_source) -> Source:
    """A source as it is; a teacher as a `LiveSource`."""
    if isinstance(teacher_or_source, Teacher | TeacherEnsemble):
        return LiveSource(teacher_or_source)
    if hasattr(teacher_or_source, "image_embeds") and hasattr(teacher_or_source, "text_embeds"):
        return teacher_or_source
    raise TypeError(
        f"found {type(teacher_or_source).__name__}; expected a teacher, a store or another source"
    )


class LiveSource(Similarity):
    """Encodes on the fly, each key of a call once; remembers the latest texts, since words recur.

    Args:
        teacher: a `Teacher` or `TeacherEnsemble`.
        calibration: pictures whose mean embedding `image_mean` returns (a few hundred of the training
            images).
        cached_texts: how many texts to remember.
    """

    def __init__(
        self,
        teacher: Teacher | TeacherEnsemble,
        calibration: Sequence[Picture] | None = None,
        cached_texts=200_000,
    ):
        self.teacher, self.calibration, self.cached_texts = teacher, calibration, cached_texts
        self.embed_dim, self.name = teacher.embed_dim, teacher.name
        self.logit_scale, self.logit_bias = teacher.logit_scale, teacher.logit_bias
        self._texts: OrderedDict[str, Tensor] = OrderedDict()
        self._mean: Tensor | None = None

    identity = "live"

    @property
    def fingerprint(self) -> str:
        return self.teacher.fingerprint

    def image_embeds(self, keys: Sequence[str], images: Sequence[Picture]) -> Tensor:
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        embeds = encode_images(self.teacher, list(first), [images[i] for i in first.values()])
        row = {key: n for n, key in enumerate(first)}
        return embeds[[row[key] for key in keys]]

    region_embeds = image_embeds

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if missing:
            encoded = finite(self.teacher.encode_texts(missing).cpu(), "text", missing, self.name)
            self._texts.update(zip(missing, encoded, strict=True))
        found = []
        for text in texts:
            self._texts.move_to_end(text)
            found.append(self._texts[text])
        while len(self._texts) > self.cached_texts:
            self._texts.popitem(last=False)
        return torch.stack(found) if found else torch.zeros(0, self.embed_dim)

    def image_mean(self) -> Tensor:
        if self._mean is None:
            if not self.calibration:
                raise ValueError(
                    "image_mean needs pictures to average over: LiveSource(teacher, calibration=[…training "
                    "images…]), or a store, which averages over the images it holds"
                )
            names = [f"calibration[{i}]" for i in range(len(self.calibration))]
            self._mean = self.image_embeds(names, self.calibration).double().mean(0).float()
        return self._mean


def encode_images(
    teacher: Teacher | TeacherEnsemble, keys: Sequence[str], images: Sequence[Picture]
) -> Tensor:
    """Open and encode images, a teacher's batch at a time; every error names the key."""
    parts = [torch.zeros(0, teacher.embed_dim)]
    for start in range(0, len(keys), teacher.batch_size):
        names = list(keys[start : start + teacher.batch_size])
        opened = [_open(name, images[start + i]) for i, name in enumerate(names)]
        parts.append(finite(teacher.encode_images(opened, names).cpu(), "image", names, teacher.name))
    return torch.cat(parts)


def _open(key: str, image: Picture) -> Image.Image | Tensor:
    if image is None:
        raise ImageError(key, "it must be encoded, but no picture was given (None)")
    if not callable(image):
        return image
    try:
        return image()
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(key, error) from error


def finite(embeds: Tensor, kind: str, names: Sequence[str], where: str) -> Tensor:
    if not torch.isfinite(embeds.sum()):  # one pass; rows have unit length, so a finite sum cannot overflow
        bad = (~torch.isfinite(embeds).all(-1)).nonzero().flatten().tolist()
        listed = ", ".join(repr(names[i]) for i in bad[:3])
        raise ValueError(
            f"{where}: the embedding of {kind} {listed} is not finite (NaN or inf), {len(bad)} in all"
        )
    return embeds
