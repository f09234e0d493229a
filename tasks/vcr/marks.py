"""Objects outlined on an image, each in the colour that belongs to its name.

A person's colour is that of the name ("Casey" is outlined in the same colour in every image), so a student
that sees patches can learn which outline a name means. Other objects take the colours that no name has, in
turn.
"""

import colorsys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from tasks.vcr.names import PERSON_NAMES

if TYPE_CHECKING:
    from tasks.vcr.data import VcrExample
    from tasks.vcr.texts import ChoiceTexts

_NUM_OBJECT_COLOURS = 6


def _hue(index: int, brightness: float) -> tuple[int, int, int]:
    # Steps of the golden ratio keep neighbours in the list far apart on the colour circle.
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 1.0, brightness)
    return round(255 * red), round(255 * green), round(255 * blue)


NAME_COLOURS = {name: _hue(index, 1.0) for index, name in enumerate(PERSON_NAMES)}
OBJECT_COLOURS = tuple(_hue(index, 0.55) for index in range(_NUM_OBJECT_COLOURS))


def colours_of(mentioned: Sequence[int], names: Mapping[int, str]) -> dict[int, tuple[int, int, int]]:
    """RGB colour of each mentioned object: its name's, or the next one for objects without a name.

    >>> colours_of([0, 3], {0: "Casey"})[0] == NAME_COLOURS["Casey"]
    True
    """
    nameless = [index for index in mentioned if index not in names]
    return {
        index: NAME_COLOURS[names[index]]
        if index in names
        else OBJECT_COLOURS[nameless.index(index) % len(OBJECT_COLOURS)]
        for index in mentioned
    }


def outline(
    image: Image.Image,
    boxes: np.ndarray,
    colours: Mapping[int, tuple[int, int, int]],
    *,
    width: int | None = None,
) -> Image.Image:
    """A copy of an RGB image with boxes outlined.

    boxes: (objects, 4), x1 y1 x2 y2 in pixels.
    colours: object index → RGB; other objects are not drawn. The first ones are drawn last, so they stay on
        top.
    width: of the line in pixels; default 1 % of the shorter side, at least 1.
    """
    image = image.copy()
    width = width or max(1, round(min(image.size) / 100))
    draw = ImageDraw.Draw(image)
    for index in reversed(list(colours)):
        x1, y1, x2, y2 = (round(float(value)) for value in boxes[index])
        x2, y2 = max(x1, min(x2, image.width) - 1), max(y1, min(y2, image.height) - 1)
        draw.rectangle((x1, y1, x2, y2), outline=colours[index], width=width)
    return image


def marked(texts: "ChoiceTexts") -> Callable[["VcrExample"], Image.Image]:
    """What a student that sees patches is shown: the image with the objects outlined that the instance mentions.

    texts: give persons their names.
    """

    def draw(example: "VcrExample") -> Image.Image:
        names = example.item.names_for(texts.name_seed)
        return outline(example.image(), example.boxes, colours_of(example.mentioned, names))

    return draw
