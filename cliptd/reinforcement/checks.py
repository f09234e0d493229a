"""Checks of a reinforced dataset: teachers recognise augmented images, and replays equal what the teachers saw."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from PIL import Image

from cliptd.data.augmentation import AugmentationPolicy, replay
from cliptd.data.images import as_rgb, open_image
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.reinforcement.dataset import ReinforcedDataset
from cliptd.reinforcement.samples import crops_of, image_embeds, text_embeds
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher

AMONG = 64
"""Texts among which a teacher looks for the one of an image."""


class Known(NamedTuple):
    """The share of images, from 0 to 1, whose own text a teacher finds among those of up to 64 images.

    whole: for whole images, by the teacher's own transform. augmented: for one augmentation of each. images: how many
    images were read.
    """

    teacher: str
    whole: float
    augmented: float
    images: int


def known_pictures(
    pairs: MapStyle[Pair], teacher: Teacher | TeacherEnsemble, policy: AugmentationPolicy, *, batches: int = 4
) -> list[Known]:
    """Measure how often the teachers still recognise augmented images.

    If they do not, their embeddings of these images teach the student noise. At most `batches` times 64 images are
    read, spread evenly over the pairs. Images that cannot be read are skipped.

    Returns: one row per teacher; none if fewer than two images can be read.
    """
    found = {member: np.zeros(2) for member in teacher.members}
    count, read = min(len(pairs), batches * AMONG), 0
    positions = [k * len(pairs) // count for k in range(count)]
    for start in range(0, count, AMONG):
        keys, images, texts = _read(pairs, positions[start : start + AMONG])
        if len(keys) < 2:
            continue
        read += len(keys)
        drawn = [policy.draw((image.height, image.width), seed) for seed, image in enumerate(images, start)]
        for member, counts in found.items():
            size = member.pixel_shape[-1]
            crops = [replay(*one, size, drawn_at=policy.size) for one in zip(images, drawn, strict=True)]
            of_texts = member.encode_texts(texts)
            for k, seen in enumerate((images, crops)):
                best = (member.encode_images(seen, keys) @ of_texts.T).argmax(1).tolist()
                counts[k] += sum(texts[one] == own for one, own in zip(best, texts, strict=True))
    if not read:
        return []
    return [
        Known(member.name, float(counts[0] / read), float(counts[1] / read), read)
        for member, counts in found.items()
    ]


def _read(pairs: MapStyle[Pair], positions: Sequence[int]) -> tuple[list[str], list[Image.Image], list[str]]:
    """Return keys, images and texts, without the pairs that cannot be read; `reinforce` reports those."""
    read = []
    for position in positions:
        with suppress(ValueError, OSError):
            pair = pairs[position]
            image = open_image(pair.image)
            if isinstance(image, Image.Image):
                read.append((pair.key, as_rgb(image), pair.text))
    keys, images, texts = zip(*read, strict=True) if read else ((), (), ())
    return list(keys), list(images), list(texts)


def check_replay(
    dataset: ReinforcedDataset, teacher: Teacher | TeacherEnsemble, samples: Sequence[int] | None = None
) -> float:
    """Return the largest difference between a stored element and the teacher's embedding of the replayed crop or text.

    In float16 rounding explains at most 2⁻¹¹ · |x| + 2⁻²⁵. A larger difference means other images, another decoder or
    another teacher.

    Args:
        samples: the indices of the samples to check. None: all.

    Raises:
        ValueError: other teachers made the dataset.
    """
    found = [(member.embed_dim, member.fingerprint) for member in teacher.members]
    stored = [(card.embed_dim, card.fingerprint) for card in dataset.card.teachers]
    if len(found) != len(stored) or any(
        own[0] != other[0] or other[1] not in (None, own[1]) for own, other in zip(found, stored, strict=True)
    ):
        names = ", ".join(card.name for card in dataset.card.teachers)
        raise ValueError(
            f"the dataset was reinforced by {names}, found {teacher.name}; give the same teachers"
        )
    largest = 0.0
    for index in range(len(dataset)) if samples is None else samples:
        sample = dataset[index]
        crops = crops_of(sample.image(), sample.augmentations, sample.key, teacher.members, dataset.card)
        embeds = image_embeds([crops], [sample.key], teacher)
        texts = text_embeds([sample.text, *sample.captions], teacher)
        for ours, theirs in ((embeds[0], sample.image_embeds), (texts, sample.text_embeds)):
            largest = max(largest, float(np.abs(ours - theirs.astype(np.float32)).max()))
    return largest
