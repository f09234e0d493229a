"""A test example beside the answer that a student gave, as people read it."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Answered:
    """An example with the right answer and a student's.

    Attributes:
        image: opens the image.
        question: the text that was asked.
        right: the right answer.
        given: the student's answer.
        is_right: true if the two agree by the task's metric.
    """

    image: Callable[[], Image.Image]
    question: str
    right: str
    given: str
    is_right: bool


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most `most` positions among `count`, from the first one on and equally far apart.

    >>> evenly_spaced(10, 4), evenly_spaced(3, 4)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    chosen = min(count, most)
    return [k * count // chosen for k in range(chosen)]
