"""Random crops of images: new ones for a live teacher, a few drawn once for a store."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from cliptd.data.augmentation import AugmentationPolicy, replay
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.config import Distillation
from cliptd.embedding.student import Student
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.utils.seeds import derive_seed


@dataclass(frozen=True)
class DrawnCrops:
    """`count` crops of each image, decided by the image's key, the policy and the seed.

    The key of a crop names all of these and what the policy draws on this machine, so a store never mistakes the
    embedding of one crop for that of another.

    policy: without operations it only crops. seed: decides the crops. count: the number of crops of each image.
    """

    policy: AugmentationPolicy
    count: int
    seed: int = 0
    name: str = field(init=False)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}, expected at least one crop of an image")
        object.__setattr__(self, "name", f"{self.policy.fingerprint()}.{self.seed}")

    def drawn(self, pair: Pair) -> Pair:
        """Return the pair with one of its crops, which torch's generator chooses."""
        return self.crop(pair, int(torch.rand(()).item() * self.count))

    def crop(self, pair: Pair, number: int) -> Pair:
        """Return the pair with a crop in the place of its opened image, and with the crop's key."""
        image = pil_image(pair)
        seed = derive_seed(self.seed, "crop", pair.key, number)
        augmentation = self.policy.draw((image.height, image.width), seed)
        crop = replay(image, augmentation, self.policy.size)
        return pair._replace(key=self.key(pair.key, number), image=crop)

    def key(self, image: str, number: int) -> str:
        """Return the key of a crop in a store, from the key of the image."""
        return f"{image}#{self.name}.{number}"


Crop: TypeAlias = Callable[[Image.Image], Image.Image] | DrawnCrops
"""A function that crops an image at random with torch's generator, or a few drawn crops of each image."""


def pil_image(pair: Pair) -> Image.Image:
    """Return the opened image of a pair. Raises ValueError naming the pair if it is no PIL image."""
    if not isinstance(pair.image, Image.Image):
        raise ValueError(f"{pair.key}: its image is a {type(pair.image).__name__}, expected a PIL image")
    return pair.image


def random_crops(
    settings: Distillation, student: Student, teacher: Teacher | TeacherEnsemble | None
) -> Crop | None:
    """Return the crops that the settings ask for, as large as the largest input of the models. None: no crops."""
    if settings.crop is None:
        return None
    members = [] if teacher is None else teacher.members
    sizes = [member.pixel_shape[-1] for member in members]
    size = max([*sizes, student.image_transform(Image.new("RGB", (16, 16))).shape[-1]])
    if settings.source == "store":
        return DrawnCrops(AugmentationPolicy(size=size, scale=settings.crop, operations=0), settings.crops)
    return RandomResizedCrop(size, scale=settings.crop, interpolation=InterpolationMode.BICUBIC)
