"""What a teacher of whole images is shown of a box: its crop, or its image with all else painted over."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from PIL import Image

TeacherBoxes = Literal["crop", "alone", "none"]


class BoxViews:
    """The boxes of one example, as pictures that are made when they are asked for; the image is opened once.

    example: of any task, its image and its boxes, in pixels.
    view: "crop", or "alone": where it is and as large as it is, on the median colour of the image, for
        teachers that know no magnified objects.

    Raises ValueError for an unknown view.
    """

    def __init__(self, example: Any, view: Literal["crop", "alone"]) -> None:
        if view not in ("crop", "alone"):
            raise ValueError(f"view is {view!r}; choose 'crop' or 'alone'")
        self.example, self.view = example, view

    @property
    def keys(self) -> list[str]:
        """A name for each box; the same name is always the same picture."""
        places = (",".join(f"{value:g}" for value in box) for box in self.example.boxes.tolist())
        return [f"{self.example.image_key}#{self.view}:{place}" for place in places]

    @property
    def pictures(self) -> list[Callable[[], Image.Image]]:
        """A function for each box that makes its picture."""
        return [partial(self.picture, index) for index in range(len(self.example.boxes))]

    def picture(self, index: int) -> Image.Image:
        """What is in one box, to whole pixels around it."""
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
