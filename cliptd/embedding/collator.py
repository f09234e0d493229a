"""Batches of image–text pairs for a student and its teachers: opened, cropped, read by each one's transform."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cliptd.data.bad_samples import BadSample, BadSampleList
from cliptd.data.images import open_image
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import OnBadSample, Pair
from cliptd.embedding.crops import Crop, DrawnCrops, pil_image
from cliptd.store.reader import TeacherStore
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.fingerprints import PROBES
from cliptd.teachers.teacher import Teacher


class OpenedPairs:
    """A map-style data set of pairs with opened images, which are cropped if there is a crop.

    crop: a random crop, which student and teacher both see. It draws from torch's generator, which the training loop
        seeds for each example, so an example's crop does not depend on the number of processes. Of `DrawnCrops` one is
        drawn in the same way, and a store holds all.
    on_bad_sample: "raise" at an image that cannot be read, or "skip": return a `BadSample`, which the collator skips
        and lists.
    read: turns a pair into what the data set returns, such as `StudentTeacherCollator.read`. A batch of transformed
        images takes less memory than one of photographs.
    """

    def __init__(
        self,
        pairs: MapStyle[Pair],
        *,
        crop: Crop | None = None,
        on_bad_sample: OnBadSample = "raise",
        read: Callable[[Pair], Any] | None = None,
    ) -> None:
        self.pairs, self.crop, self.on_bad_sample, self.read = pairs, crop, on_bad_sample, read

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        pair = self._read(index)
        if isinstance(pair, BadSample):
            return pair
        if isinstance(self.crop, DrawnCrops):
            pair = self.crop.drawn(pair)
        elif self.crop is not None:
            pair = pair._replace(image=self.crop(pil_image(pair)))
        return pair if self.read is None else self.read(pair)

    def lacking(self, index: int, lacks: Callable[[str], bool]) -> tuple[str, list[Pair]] | BadSample:
        """Return the pair's text and the views of its image that a store lacks.

        The views are the whole image or, with `DrawnCrops`, its drawn crops. The image is opened only if the store
        lacks any of them. `lacks` is called once for each view's key.
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
        """Return the pair, with its whole image opened if `opens` returns true for its key."""
        try:
            pair = self.pairs[index]
            if opens(pair.key):
                pair = pair._replace(image=open_image(pair.image))
        except (ValueError, OSError) as error:
            if self.on_bad_sample == "raise":
                raise
            return BadSample(str(error))
        return pair


class Reader(Protocol):
    """A dual encoder's image transform and tokenizer."""

    def image_transform(self, image: Image.Image) -> Tensor:
        """Return (3, height, width) pixels of an image."""

    def tokenize(self, texts: Sequence[str]) -> Tensor | dict[str, Tensor]:
        """Return (texts, tokens) ids, or several such columns."""


class StudentReader(Protocol):
    """A student's image transform and tokenizer."""

    def image_transform(self, image: Image.Image) -> Tensor:
        """Return (3, height, width) pixels of an image."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return (texts, tokens) ids."""


class ReadPair(NamedTuple):
    """A pair as the models read it.

    pixels: (3, height, width) by the student's transform. of_teachers: the same by each teacher's transform. None: the
    teacher reads the student's.
    """

    key: str
    text: str
    pixels: Tensor
    of_teachers: list[Tensor | None]


class StudentTeacherCollator:
    """Turns opened pairs, or the results of `read`, into the columns of `EmbeddingDistiller.forward`.

    Each model has its own transform and tokenizer.

    Args:
        student: reads the images and texts.
        teacher: a live teacher, whose inputs are prepared here. It embeds them in forward.
        source: a store whose embeddings go into the batch. Without teacher and source the objective needs neither.
        bad_samples: lists the pairs that are skipped.

    Raises:
        ValueError: from a call, if no pair of a batch could be read; and as the store.
    """

    def __init__(
        self,
        student: StudentReader,
        *,
        teacher: Teacher | TeacherEnsemble | None = None,
        source: TeacherStore | None = None,
        bad_samples: BadSampleList | None = None,
    ) -> None:
        self.student, self.source = student, source
        self.bad_samples = bad_samples or BadSampleList()
        self.members = [] if teacher is None else list(teacher.members)
        # A member that reads as the student does gets the student's columns, which halves the work of a batch.
        self.own_pixels = [not _same_pixels(student, member) for member in self.members]
        self.own_tokens = [not _same_tokens(student, member) for member in self.members]

    def read(self, pair: Pair) -> ReadPair:
        """Return a pair with its image as student and teachers see it."""
        of_teachers = [
            member.pixels([pil_image(pair)], [pair.key])[0] if own else None
            for member, own in zip(self.members, self.own_pixels, strict=True)
        ]
        return ReadPair(pair.key, pair.text, self.student.image_transform(pil_image(pair)), of_teachers)

    def __call__(self, pairs: Sequence[Pair | ReadPair | BadSample], /) -> dict[str, Any]:
        """Return the columns of a batch."""
        good = self.bad_samples.good(pairs)
        read = [self.read(pair) if isinstance(pair, Pair) else pair for pair in good]
        keys, texts, pixels, of_teachers = map(list, zip(*read, strict=True))
        columns: dict[str, Any] = {
            "pixel_values": torch.stack(pixels),
            "input_ids": self.student.tokenize(texts),
        }
        if self.members:
            columns["teacher_inputs"] = [
                ({"pixels": torch.stack(of_member)} if own_pixels else {})
                | ({"tokens": member.tokenize(texts)} if own_tokens else {})
                for member, of_member, own_pixels, own_tokens in zip(
                    self.members,
                    zip(*of_teachers, strict=True),
                    self.own_pixels,
                    self.own_tokens,
                    strict=True,
                )
            ]
        elif self.source is not None:
            columns["teacher_image"] = self.source.image_embeds(keys)
            columns["teacher_text"] = self.source.text_embeds(texts)
        return columns


def _same_pixels(one: Reader, other: Reader) -> bool:
    """Return whether two image transforms give the same bits for noise of several shapes."""
    rng = np.random.default_rng(0)
    shapes = ((37, 61), (61, 37), (300, 420), (420, 300))
    noise = [Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]
    return all(torch.equal(one.image_transform(image), other.image_transform(image)) for image in noise)


def _same_tokens(one: Reader, other: Reader) -> bool:
    """Return whether two tokenizers agree on texts that most tokenizers cut differently."""
    first, second = one.tokenize(PROBES), other.tokenize(PROBES)
    return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)
