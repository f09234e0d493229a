"""A source that computes the teacher's embeddings at every step."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from cliptd.data.images import AnyImage
from cliptd.store.source import Source, encode_images
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.similarity import Similarity
from cliptd.teachers.teacher import Teacher
from cliptd.utils.finite import check_finite


def as_source(teacher_or_source: Teacher | TeacherEnsemble | Source) -> Source:
    """Return a source as it is, and a teacher as a `LiveSource`. Raises TypeError for anything else."""
    if isinstance(teacher_or_source, Teacher | TeacherEnsemble):
        return LiveSource(teacher_or_source)
    if hasattr(teacher_or_source, "image_embeds") and hasattr(teacher_or_source, "text_embeds"):
        return teacher_or_source
    raise TypeError(
        f"found {type(teacher_or_source).__name__}; expected a teacher, a store or another source"
    )


class LiveSource(Similarity):
    """A source that asks the teacher each time. It encodes each key of a call once and keeps the latest texts.

    Args:
        teacher: a `Teacher` or `TeacherEnsemble`.
        calibration: images whose mean embedding `image_mean` returns, such as a few hundred training images.
        cached_texts: the number of texts whose embeddings are kept, since words recur.
    """

    def __init__(
        self,
        teacher: Teacher | TeacherEnsemble,
        calibration: Sequence["AnyImage | None"] | None = None,
        cached_texts: int = 200_000,
    ):
        self.teacher, self.calibration, self.cached_texts = teacher, calibration, cached_texts
        self.embed_dim, self.name = teacher.embed_dim, teacher.name
        self.logit_scale, self.logit_bias = teacher.logit_scale, teacher.logit_bias
        self._texts: OrderedDict[str, Tensor] = OrderedDict()
        self._mean: Tensor | None = None

    identity = "live"

    @property
    def fingerprint(self) -> str:
        """Return the teacher's fingerprint."""
        return self.teacher.fingerprint

    def image_embeds(self, keys: Sequence[str], images: Sequence["AnyImage | None"]) -> Tensor:
        """Return (n, dim) of unit length. Raises ImageError naming the key of an image that cannot be read."""
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        embeds = encode_images(self.teacher, list(first), [images[i] for i in first.values()])
        row = {key: n for n, key in enumerate(first)}
        return embeds[[row[key] for key in keys]]

    region_embeds = image_embeds

    def text_embeds(self, texts: Sequence[str]) -> Tensor:
        """Return (n, dim) of unit length."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if missing:
            encoded = check_finite(self.teacher.encode_texts(missing).cpu(), "text", missing, self.name)
            self._texts.update(zip(missing, encoded, strict=True))
        found = []
        for text in texts:
            self._texts.move_to_end(text)
            found.append(self._texts[text])
        while len(self._texts) > self.cached_texts:
            self._texts.popitem(last=False)
        return torch.stack(found) if found else torch.zeros(0, self.embed_dim)

    def image_mean(self) -> Tensor:
        """Return (dim,), the mean embedding of the calibration images. Raises ValueError if there are none."""
        if self._mean is None:
            if not self.calibration:
                raise ValueError(
                    "image_mean needs images to average over; give LiveSource(teacher, calibration=[…training "
                    "images…]), or use a store, which averages over its own images"
                )
            names = [f"calibration[{i}]" for i in range(len(self.calibration))]
            self._mean = self.image_embeds(names, self.calibration).double().mean(0).float()
        return self._mean
