"""Augmentations that are drawn once and replayed to the pixel: a random resized crop, then RandAugment operations.

Dataset reinforcement (arXiv 2303.08983) and MobileCLIP's reinforced datasets (arXiv 2311.17049) do the same, and the
encoding of the parameters is theirs. A replay is a pure function of the image and the parameters.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from cliptd.data.images import as_rgb

OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
"""The operations of RandAugment (arXiv 1909.13719), in the order of the public encoding's numbers."""
SIGNED = OPERATIONS[1:10]
"""The operations whose magnitude is made negative with a probability of one half."""


@dataclass(frozen=True)
class Augmentation:
    """One drawn augmentation.

    crop: (top, left, height, width) in pixels of the whole image.
    operations: (name, magnitude) in the order of their application. Translations are in pixels of the crop, at the
        size for which it was drawn.
    """

    crop: tuple[int, int, int, int]
    operations: tuple[tuple[str, float], ...]

    def encode(self) -> list[list[Any]]:
        """Return JSON values as in public shards: [[top, left, height, width], [[operation number, magnitude], …]]."""
        return [
            list(self.crop),
            [[OPERATIONS.index(name), magnitude] for name, magnitude in self.operations],
        ]

    @classmethod
    def decode(cls, encoded: Any) -> "Augmentation":
        """Return the augmentation that `encode` made these values of. Raises ValueError for other values."""
        try:
            crop, operations = encoded
            top, left, height, width = map(int, crop)
            named = tuple((_operation(number), float(magnitude)) for number, magnitude in operations or ())
        except (TypeError, ValueError, IndexError):
            raise ValueError(
                f"found {encoded!r}, expected [[top, left, height, width], [[operation, magnitude], …]] with "
                f"operations from 0 to {len(OPERATIONS) - 1}"
            ) from None
        return cls((top, left, height, width), named)


def _operation(number: int) -> str:
    if not 0 <= number < len(OPERATIONS):
        raise IndexError
    return OPERATIONS[number]


@dataclass(frozen=True)
class AugmentationPolicy:
    """The ranges from which augmentations are drawn. The defaults are those of the public reinforced datasets.

    size: height and width of a crop in pixels, to which translations are relative.
    scale: the smallest and largest area of a crop, as a part of the image's area.
    ratio: the smallest and largest ratio of a crop's width to its height.
    operations: the number of RandAugment's operations on a crop.
    magnitude: the strength of the operations, from 0 to below `magnitudes`.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    operations: int = 2
    magnitude: int = 9
    magnitudes: int = 31

    def __post_init__(self) -> None:
        if self.size < 1 or self.operations < 0 or not 0 <= self.magnitude < self.magnitudes:
            raise ValueError(
                f"found size {self.size}, operations {self.operations}, magnitude {self.magnitude} of "
                f"{self.magnitudes}; expected a size of at least 1, no negative number of operations and a magnitude "
                "below magnitudes"
            )

    def draw(self, image_size: tuple[int, int], seed: int) -> Augmentation:
        """Draw the augmentation of a seed for an image of (height, width) pixels. No other generator is used."""
        generator = torch.Generator().manual_seed(seed)
        crop = self._crop(*image_size, generator)
        return Augmentation(crop, tuple(self._operation(generator) for _ in range(self.operations)))

    def fingerprint(self) -> str:
        """Return 16 hex digits of the settings and of some draws, so that they also change with the way of drawing."""
        drawn = [self.draw(size, seed).encode() for size in ((64, 64), (300, 200)) for seed in range(4)]
        return hashlib.sha256(json.dumps([asdict(self), drawn]).encode()).hexdigest()[:16]

    def _crop(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
        """Draw (top, left, height, width) as torchvision's RandomResizedCrop does, but from the given generator."""

        def uniform(low: float, high: float) -> Tensor:
            return torch.empty(1).uniform_(low, high, generator=generator)

        logarithms = torch.log(torch.tensor(self.ratio)).tolist()
        for _ in range(10):
            area = height * width * uniform(*self.scale).item()
            ratio = uniform(*logarithms).exp().item()
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = torch.randint(height - h + 1, (1,), generator=generator)
                left = torch.randint(width - w + 1, (1,), generator=generator)
                return int(top), int(left), h, w
        w, h = width, height  # the largest crop in the middle that the ratios allow
        if width / height < min(self.ratio):
            h = round(w / min(self.ratio))
        elif width / height > max(self.ratio):
            w = round(h * max(self.ratio))
        return (height - h) // 2, (width - w) // 2, h, w

    def _operation(self, generator: torch.Generator) -> tuple[str, float]:
        name = OPERATIONS[int(torch.randint(len(OPERATIONS), (), generator=generator))]
        magnitude = self._strengths(name)[self.magnitude]
        if name in SIGNED and torch.randint(2, (), generator=generator):
            magnitude = -magnitude
        return name, magnitude

    def _strengths(self, name: str) -> list[float]:
        """Return the magnitudes of an operation, rising. They are float32 values, so they are stored without loss."""
        most = {
            "ShearX": 0.3,
            "ShearY": 0.3,
            "TranslateX": 150 / 331 * self.size,
            "TranslateY": 150 / 331 * self.size,
            "Rotate": 30.0,
            "Brightness": 0.9,
            "Color": 0.9,
            "Contrast": 0.9,
            "Sharpness": 0.9,
        }
        if name in most:
            return torch.linspace(0.0, most[name], self.magnitudes).tolist()
        if name == "Solarize":
            return torch.linspace(255.0, 0.0, self.magnitudes).tolist()
        if name == "Posterize":
            steps = torch.arange(self.magnitudes) / ((self.magnitudes - 1) / 4)
            return (8 - steps.round()).tolist()
        return [0.0] * self.magnitudes


def replay(
    image: Image.Image, augmentation: Augmentation, size: int, *, drawn_at: int | None = None
) -> Image.Image:
    """Return the augmented image, `size` × `size`, in RGB. Every replay gives the same pixels.

    Args:
        image: the whole image for which the augmentation was drawn.
        augmentation: as a policy drew it.
        size: height and width of the result in pixels.
        drawn_at: the policy's size, so that translations are the same part of a crop at any size. None: `size`.

    Raises:
        ValueError: the crop is not inside the image, so this is another image or another size of it.
    """
    top, left, height, width = augmentation.crop
    if not (
        0 <= top <= top + height <= image.height
        and 0 <= left <= left + width <= image.width
        and height
        and width
    ):
        raise ValueError(
            f"the crop (top {top}, left {left}, {height} × {width}) is not inside the image, which has "
            f"{image.height} × {image.width} pixels; it was drawn for another image or another size of it; "
            "give the image as it was"
        )
    crop = F.resized_crop(as_rgb(image), top, left, height, width, [size, size], InterpolationMode.BICUBIC)
    grown = size / (drawn_at or size)
    for name, magnitude in augmentation.operations:
        crop = _APPLY[name](crop, magnitude * grown if name.startswith("Translate") else magnitude)
    return crop


def _affine(
    image: Image.Image, *, translate: Sequence[int] = (0, 0), shear: Sequence[float] = (0.0, 0.0)
) -> Image.Image:
    """Translate or shear an image. The upper left corner stays where it is under a shear."""
    center = [0, 0] if any(shear) else None
    return F.affine(
        image,
        angle=0.0,
        translate=list(translate),
        scale=1.0,
        shear=list(shear),
        interpolation=_NEAREST,
        center=center,
    )


_NEAREST = InterpolationMode.NEAREST
_APPLY: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, m: image,
    "ShearX": lambda image, m: _affine(image, shear=(math.degrees(math.atan(m)), 0.0)),
    "ShearY": lambda image, m: _affine(image, shear=(0.0, math.degrees(math.atan(m)))),
    "TranslateX": lambda image, m: _affine(image, translate=(int(m), 0)),
    "TranslateY": lambda image, m: _affine(image, translate=(0, int(m))),
    "Rotate": lambda image, m: F.rotate(image, m, interpolation=_NEAREST),
    "Brightness": lambda image, m: F.adjust_brightness(image, 1.0 + m),
    "Color": lambda image, m: F.adjust_saturation(image, 1.0 + m),
    "Contrast": lambda image, m: F.adjust_contrast(image, 1.0 + m),
    "Sharpness": lambda image, m: F.adjust_sharpness(image, 1.0 + m),
    "Posterize": lambda image, m: F.posterize(image, int(m)),
    "Solarize": lambda image, m: F.solarize(image, m),
    "AutoContrast": lambda image, m: F.autocontrast(image),
    "Equalize": lambda image, m: F.equalize(image),
}
