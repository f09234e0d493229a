"""Image–text pairs as a dual encoder and its teacher read them: opened, cropped, by each one's transform."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cliptd.data.bad_samples import BadSample, BadSampleList
from cliptd.data.pairs.pair import OnBadSample, Pair
from cliptd.embedding.crops import DrawnCrops
from cliptd.store.reader import TeacherStore
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import PROBES, Teacher


class OpenedPairs:
    """Map-style: the pairs with their images opened, and cropped if asked.

    crop: an image to an image, drawing from torch's generators, which the training loop seeds for each example: the
        same sample is cropped alike whatever the number of processes. Student and teacher see the same crop. Or
        `DrawnCrops`, of which one is drawn likewise and a store holds all.
    on_bad_sample: "raise" at an image that cannot be read, or "skip": give a `BadSample`, which the collator leaves out
        of its batch and counts.
    read: what is made of a pair in the end, such as `StudentTeacherCollator.read`: a batch of transformed pictures
        takes little memory, one of photographs much.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        crop: Callable[[Image.Image], Image.Image] | DrawnCrops | None = None,
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
            pair = pair._replace(image=self.crop(pair.image))
        return pair if self.read is None else self.read(pair)

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


class ReadPair(NamedTuple):
    """pixels: (3, height, width) by the student's transform. of_teachers: by each teacher's; None: as the student's."""

    key: str
    text: str
    pixels: Tensor
    of_teachers: list[Tensor | None]


class StudentTeacherCollator:
    """Opened pairs, or what `read` made of each → the columns of `EmbeddingDistiller.forward`.

    Each model reads by its own transform and tokenizer.

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
        source: TeacherStore | None = None,
        bad_samples: BadSampleList | None = None,
    ) -> None:
        self.student, self.source = student, source
        self.bad_samples = bad_samples or BadSampleList()
        self.members = [] if teacher is None else list(getattr(teacher, "members", [teacher]))
        # What a member reads as the student does, it reads of the student's columns: half the work of a batch.
        self.own_pixels = [not _same_pixels(student, member) for member in self.members]
        self.own_tokens = [not _same_tokens(student, member) for member in self.members]

    def read(self, pair: Pair) -> ReadPair:
        """A pair's picture as student and teachers see it."""
        of_teachers = [
            member.pixels([pair.image], [pair.key])[0] if own else None
            for member, own in zip(self.members, self.own_pixels, strict=True)
        ]
        return ReadPair(pair.key, pair.text, self.student.image_transform(pair.image), of_teachers)

    def __call__(self, pairs: Sequence[Pair | ReadPair | BadSample]) -> dict[str, Any]:
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
    """Whether two image transforms agree, to the bit, on noise of several shapes."""
    rng = np.random.default_rng(0)
    shapes = ((37, 61), (61, 37), (300, 420), (420, 300))
    noise = [Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]
    return all(torch.equal(one.image_transform(image), other.image_transform(image)) for image in noise)


def _same_tokens(one: Reader, other: Reader) -> bool:
    """Whether two tokenizers agree on texts that most of them cut differently."""
    found = [reader.tokenize(PROBES) for reader in (one, other)]
    return all(isinstance(tokens, Tensor) for tokens in found) and torch.equal(*found)
