"""Image–text pairs as a dual encoder and its teacher read them: opened, cropped, by each one's transform."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cliptd.data.pairs import OnBadSample, Pair
from cliptd.dual_encoders import PROBES, Teacher, TeacherEnsemble
from cliptd.embedding.bad_samples import BadSample, BadSampleList
from cliptd.embedding.crops import DrawnCrops
from cliptd.sources import Source


class OpenedPairs:
    """Map-style: the pairs with their images opened, and cropped if asked.

    crop: an image to an image, drawing from torch's generators, which the training loop seeds for each example: the
        same sample is cropped alike whatever the number of processes. Student and teacher see the same crop. Or
        `DrawnCrops`, of which one is drawn likewise and a store holds all.
    on_bad_sample: "raise" at an image that cannot be read, or "skip": give a `BadSample`, which the collator leaves out
        of its batch and counts.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        crop: Callable[[Image.Image], Image.Image] | DrawnCrops | None = None,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        self.pairs, self.crop, self.on_bad_sample = pairs, crop, on_bad_sample

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair | BadSample:
        pair = self._read(index)
        if isinstance(pair, BadSample) or self.crop is None:
            return pair
        if isinstance(self.crop, DrawnCrops):
            return self.crop.drawn(pair)
        return pair._replace(image=self.crop(pair.image))

    def lacking(self, index: int, lacks: Callable[[str], bool]) -> tuple[str, list[Pair]] | BadSample:
        """The pair's text, and of its whole image or its drawn crops those that a store lacks by their keys.

        The image is opened only if there are any; `lacks` is asked once of each key.
        """
        crops = self.crop if isinstance(self.crop, DrawnCrops) else None
        numbers: list[int] = []

        def wanted(key: str) -> list[int]:
            if crops is None:
                numbers.extend([0] if lacks(key) else [])
            else:
                numbers.extend(n for n in range(crops.count) if lacks(crops.key(key, n)))
            return numbers

        pair = self._read(index, wanted)
        if isinstance(pair, BadSample):
            return pair
        return pair.text, [pair if crops is None else crops.crop(pair, number) for number in numbers]

    def _read(self, index: int, opens: Callable[[str], Any] = lambda key: True) -> Pair | BadSample:
        """The pair, its whole image opened if `opens` says so of its key."""
        try:
            pair = self.pairs[index]
            if opens(pair.key) and callable(pair.image):
                pair = pair._replace(image=pair.image())
        except (ValueError, OSError) as error:
            if self.on_bad_sample == "raise":
                raise
            return BadSample(str(error))
        return pair


class Reader(Protocol):
    """What a dual encoder brings: its image transform and its tokenizer."""

    def image_transform(self, image: Image.Image) -> Tensor: ...

    def tokenize(self, texts: Sequence[str]) -> Tensor: ...


class StudentTeacherCollator:
    """Opened pairs → the columns of `EmbeddingDistiller.forward`, by each model's own transform and tokenizer.

    Args:
        student: see `Reader`.
        teacher: a live one, whose inputs are prepared here and which is asked in forward; None: see source.
        source: a store whose embeddings the batch brings; None and no teacher: the objective needs none.
        bad_samples: where pairs that were left out are listed.

    Raises:
        ValueError: for a batch without a single good pair, and as the store.
    """

    def __init__(
        self,
        student: Reader,
        *,
        teacher: Teacher | TeacherEnsemble | None = None,
        source: Source | None = None,
        bad_samples: BadSampleList | None = None,
    ) -> None:
        self.student, self.source = student, source
        self.bad_samples = bad_samples or BadSampleList()
        self.members = [] if teacher is None else list(getattr(teacher, "members", [teacher]))
        # What a member reads as the student does, it reads of the student's columns: half the work of a batch.
        self.own_pixels = [not _same_pixels(student, member) for member in self.members]
        self.own_tokens = [not _same_tokens(student, member) for member in self.members]

    def __call__(self, pairs: Sequence[Pair | BadSample]) -> dict[str, Any]:
        good = self.bad_samples.good(pairs)
        keys, images, texts = map(list, zip(*good, strict=True))
        columns: dict[str, Any] = {
            "pixel_values": torch.stack([self.student.image_transform(image) for image in images]),
            "input_ids": self.student.tokenize(texts),
        }
        if self.members:
            columns["teacher_inputs"] = [
                ({"pixels": member.pixels(images, keys)} if own_pixels else {})
                | ({"tokens": member.tokenize(texts)} if own_tokens else {})
                for member, own_pixels, own_tokens in zip(
                    self.members, self.own_pixels, self.own_tokens, strict=True
                )
            ]
        elif self.source is not None:
            columns["teacher_image"] = self.source.image_embeds(keys, images)
            columns["teacher_text"] = self.source.text_embeds(texts)
        return columns


def _same_pixels(one: Reader, other: Reader) -> bool:
    """Whether two image transforms agree, to the bit, on noise of several shapes."""
    rng = np.random.default_rng(0)
    shapes = ((37, 61), (61, 37), (300, 420), (420, 300))
    noise = [Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]
    return all(torch.equal(one.image_transform(image), other.image_transform(image)) for image in noise)


def _same_tokens(one: Reader, other: Reader) -> bool:
    """Whether two tokenizers agree on texts that most of them cut differently."""
    found = [reader.tokenize(PROBES) for reader in (one, other)]
    return all(isinstance(tokens, Tensor) for tokens in found) and torch.equal(*found)
