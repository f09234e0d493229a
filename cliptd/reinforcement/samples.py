"""The making of reinforced samples: pairs are read, augmented, captioned, embedded (MobileCLIP, arXiv 2311.17049)."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cliptd.data.augmentation import Augmentation, replay
from cliptd.data.images import open_image
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import OnBadSample, Pair
from cliptd.reinforcement.dataset import Reinforced, ReinforcementCard, opener
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.utils.finite import check_finite
from cliptd.utils.seeds import derive_seed


class Captions(Protocol):
    """A writer of synthetic captions, such as `cliptd.reinforcement.captioner.Captioner`."""

    name: str

    def captions(self, images: Sequence[Image.Image], seeds: Sequence[Sequence[int]]) -> list[list[str]]:
        """Return captions of each image, one for each of its seeds."""


class ReadForTeachers(NamedTuple):
    """A pair that was read.

    image: the whole image if a captioner needs it. crops: for each teacher (augmentations, 3, height, width) pixels, by
    its own transform.
    """

    position: int
    pair: Pair
    image: Image.Image | None
    augmentations: tuple[Augmentation, ...]
    crops: list[Tensor]


class SampleMaker:
    """Makes reinforced samples of pairs: `read` reads one pair, in any thread, and `make` embeds several.

    Args:
        pairs: a map-style data set.
        captioner: writes the captions. None: no synthetic captions.
        card: describes the augmentations and captions.
        seed: decides augmentations and captions.
        on_bad_sample: "raise" at a pair that cannot be read and at an embedding that is not finite, or "skip": return
            the reason instead.
    """

    def __init__(
        self,
        pairs: MapStyle[Pair],
        teacher: Teacher | TeacherEnsemble,
        captioner: Captions | None,
        card: ReinforcementCard,
        *,
        seed: int,
        on_bad_sample: OnBadSample,
    ) -> None:
        self.pairs, self.teacher, self.captioner, self.card = pairs, teacher, captioner, card
        self.seed, self.on_bad_sample = seed, on_bad_sample

    def read(self, position: int) -> ReadForTeachers | str:
        """Read the pair at a position and draw and replay its augmentations for every teacher.

        If it cannot be read, return the reason.
        """
        try:
            pair = self.pairs[position]
            image = open_image(pair.image)
            if not isinstance(image, Image.Image):
                raise ValueError(f"{pair.key}: its image is a {type(image).__name__}, expected a PIL image")
            drawn = tuple(
                self.card.policy.draw(
                    (image.height, image.width), derive_seed(self.seed, "augmentation", position, k)
                )
                for k in range(self.card.augmentations)
            )
            crops = crops_of(image, drawn, pair.key, self.teacher.members, self.card)
            kept = image if self.captioner is not None else None  # many whole images would fill the memory
            return ReadForTeachers(position, pair, kept, drawn, crops)
        except (ValueError, OSError) as error:
            if self.on_bad_sample == "raise":
                raise
            return str(error)

    def make(self, read: Sequence[ReadForTeachers | str]) -> tuple[list[tuple[int, Reinforced]], list[str]]:
        """Return (position, sample) of each pair that was read, and the reasons of the others."""
        good = [one for one in read if not isinstance(one, str)]
        bad = [one for one in read if isinstance(one, str)]
        if not good:
            return [], bad
        try:
            return self._reinforced(good), bad
        except ValueError as error:  # an embedding that is not finite
            if self.on_bad_sample == "raise":
                raise
            if len(good) == 1:
                return [], [*bad, str(error)]
        alone = [self.make([one]) for one in read]
        samples = [sample for found, _ in alone for sample in found]
        return samples, [reason for _, reasons in alone for reason in reasons]

    def _reinforced(self, read: Sequence[ReadForTeachers]) -> list[tuple[int, Reinforced]]:
        captions: list[list[str]] = [[] for _ in read]
        if self.captioner is not None and self.card.captions:
            seeds = [
                [derive_seed(self.seed, "caption", one.position, k) for k in range(self.card.captions)]
                for one in read
            ]
            images = [one.image for one in read if one.image is not None]
            captions = self.captioner.captions(images, seeds)
        of_images = image_embeds([one.crops for one in read], [one.pair.key for one in read], self.teacher)
        texts = [text for one, own in zip(read, captions, strict=True) for text in (one.pair.text, *own)]
        of_texts = text_embeds(texts, self.teacher).reshape(len(read), 1 + self.card.captions, -1)
        return [
            (
                one.position,
                Reinforced(
                    one.pair.key,
                    opener(one.pair.image),
                    one.pair.text,
                    tuple(own),
                    one.augmentations,
                    seen,
                    understood,
                ),
            )
            for one, own, seen, understood in zip(read, captions, of_images, of_texts, strict=True)
        ]


def crops_of(
    image: Image.Image,
    augmentations: Sequence[Augmentation],
    key: str,
    teachers: Sequence[Teacher],
    card: ReinforcementCard,
) -> list[Tensor]:
    """Return what each teacher sees of the augmented image: (augmentations, 3, height, width) pixels.

    Teachers with one transform share one tensor.
    """
    seen: dict[str, Tensor] = {}
    for teacher in teachers:
        size, transform = teacher.pixel_shape[-1], teacher.transform_name
        if transform not in seen:
            replayed = [replay(image, a, size, drawn_at=card.policy.size) for a in augmentations]
            seen[transform] = teacher.pixels(replayed, _names(key, len(augmentations)))
    return [seen[teacher.transform_name] for teacher in teachers]


def _names(key: str, augmentations: int) -> list[str]:
    return [f"{key}, augmentation {k}" for k in range(augmentations)]


def image_embeds(
    crops: Sequence[Sequence[Tensor]], keys: Sequence[str], teacher: Teacher | TeacherEnsemble
) -> np.ndarray:
    """Embed each image's crops, given for each teacher: (images, augmentations, Σ dims) float32."""
    parts = []
    for member, of_images in zip(teacher.members, zip(*crops, strict=True), strict=True):
        names = [name for key, own in zip(keys, of_images, strict=True) for name in _names(key, len(own))]
        embeds = member.encode_images(torch.cat(of_images), names).cpu()
        parts.append(check_finite(embeds, "image", names, member.name))
    return torch.cat(parts, dim=1).unflatten(0, (len(keys), -1)).numpy()


def text_embeds(texts: Sequence[str], teacher: Teacher | TeacherEnsemble) -> np.ndarray:
    """Embed texts: (texts, Σ dims) float32."""
    parts = [check_finite(m.encode_texts(texts).cpu(), "text", texts, m.name) for m in teacher.members]
    return torch.cat(parts, dim=1).numpy()
