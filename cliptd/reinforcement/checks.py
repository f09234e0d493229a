"""Is a reinforced dataset worth training on: replays are what its teachers saw, and they know what they see."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from PIL import Image

from cliptd.data.augmentation import AugmentationPolicy, replay
from cliptd.data.images import as_rgb
from cliptd.data.pairs.pair import Pair
from cliptd.reinforcement.dataset import ReinforcedDataset
from cliptd.reinforcement.samples import crops_of, image_embeds, members_of, text_embeds
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher

AMONG = 64


class Known(NamedTuple):
    """The share of pictures whose own text a teacher finds among those of up to 64.

    whole: of pictures by the teacher's own transform. augmented: of one augmentation of each.
    """

    teacher: str
    whole: float
    augmented: float
    pictures: int


def known_pictures(
    pairs: Sequence[Pair], teacher: Teacher | TeacherEnsemble, policy: AugmentationPolicy, *, batches: int = 4
) -> list[Known]:
    """Whether teachers still know pictures that are augmented: of others they say what is not so.

    Pictures are spread evenly over the pairs, `batches` times 64 at most; what cannot be read is left out.

    Returns: a line a teacher; none if there are not two pictures to tell apart.
    """
    found = {member: np.zeros(2) for member in members_of(teacher)}
    count, pictures = min(len(pairs), batches * AMONG), 0
    positions = [k * len(pairs) // count for k in range(count)]
    for start in range(0, count, AMONG):
        keys, images, texts = _read(pairs, positions[start : start + AMONG])
        if len(keys) < 2:
            continue
        pictures += len(keys)
        drawn = [policy.draw((image.height, image.width), seed) for seed, image in enumerate(images, start)]
        for member, counts in found.items():
            size = member.pixel_shape[-1]
            crops = [replay(*one, size, drawn_at=policy.size) for one in zip(images, drawn, strict=True)]
            of_texts = member.encode_texts(texts)
            for k, seen in enumerate((images, crops)):
                best = (member.encode_images(seen, keys) @ of_texts.T).argmax(1).tolist()
                counts[k] += sum(texts[one] == own for one, own in zip(best, texts, strict=True))
    if not pictures:
        return []
    return [Known(member.name, *(counts / pictures).tolist(), pictures) for member, counts in found.items()]


def _read(pairs: Sequence[Pair], positions: Sequence[int]) -> tuple[list[str], list[Image.Image], list[str]]:
    """Keys, pictures and texts; without those that `reinforce` complains about."""
    read = []
    for position in positions:
        with suppress(ValueError, OSError):
            pair = pairs[position]
            image = pair.image() if callable(pair.image) else pair.image
            if isinstance(image, Image.Image):
                read.append((pair.key, as_rgb(image), pair.text))
    keys, images, texts = zip(*read, strict=True) if read else ((), (), ())
    return list(keys), list(images), list(texts)


def check_replay(
    dataset: ReinforcedDataset, teacher: Teacher | TeacherEnsemble, samples: Sequence[int] | None = None
) -> float:
    """The largest difference between a stored element and what the teacher makes of the replayed crop or the text.

    In float16 at most 2⁻¹¹ · |x| + 2⁻²⁵ is rounding; more means other pictures, another decoder or another teacher.

    samples: which ones; None: all.

    Raises ValueError if other teachers made the dataset.
    """
    found = [(member.embed_dim, member.fingerprint) for member in members_of(teacher)]
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
        crops = crops_of(sample.image(), sample.augmentations, sample.key, members_of(teacher), dataset.card)
        embeds = image_embeds([crops], [sample.key], teacher)
        texts = text_embeds([sample.text, *sample.captions], teacher)
        for ours, stored in ((embeds[0], sample.image_embeds), (texts, sample.text_embeds)):
            largest = max(largest, float(np.abs(ours - stored.astype(np.float32)).max()))
    return largest
