"""The image of a box for a teacher of whole images: its crop, or its image with all else painted over."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # settings import this module, and must not cost torch
    from tasks.batches.example import Example

TeacherBoxes = Literal["crop", "alone", "none"]


class BoxViews:
    """The boxes of one example, as images that are made when they are asked for. The example's image is opened once.

    Args:
        example: of any task. Its boxes are in pixels.
        view: "crop": the box alone. "alone": the box in its place and size, on the median colour of the image, for
            teachers that do not know magnified objects.

    Raises:
        ValueError: the view is unknown.
    """

    def __init__(self, example: "Example", view: Literal["crop", "alone"]) -> None:
        if view not in ("crop", "alone"):
            raise ValueError(f"view is {view!r}; choose 'crop' or 'alone'")
        self.example, self.view = example, view

    @property
    def keys(self) -> list[str]:
        """Return a name for each box. The same name is always the same image."""
        places = (",".join(f"{value:g}" for value in box) for box in self.example.boxes.tolist())
        return [f"{self.example.image_key}#{self.view}:{place}" for place in places]

    @property
    def images(self) -> list[Callable[[], Image.Image]]:
        """Return a function for each box that makes its image."""
        return [partial(self.image, index) for index in range(len(self.example.boxes))]

    def image(self, index: int) -> Image.Image:
        """Make the image of one box, with its sides rounded outwards to whole pixels."""
        x1, y1 = np.floor(self.example.boxes[index][:2]).astype(int)
        x2, y2 = np.ceil(self.example.boxes[index][2:]).astype(int)
        crop = self._image.crop((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))
        if self.view == "crop":
            return crop
        alone = Image.new("RGB", self._image.size, self._background)
        alone.paste(crop, (x1, y1))
        return alone

    @cached_property
    def _image(self) -> Image.Image:
        return self.example.image()

    @cached_property
    def _background(self) -> tuple[int, ...]:
        return tuple(int(value) for value in np.median(np.asarray(self._image).reshape(-1, 3), axis=0))
