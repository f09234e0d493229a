"""An example of a task, and its boxes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Example(Protocol):
    """An example as collators and region features read it."""

    image_key: str
    """Name of the image. The same key is always the same image."""
    image: Callable[[], Image.Image]
    """Opens the image."""
    size: tuple[int, int]
    """(width, height) of the image."""
    boxes: np.ndarray
    """(R, 4) in pixels, x1 y1 x2 y2."""
    mentioned: Sequence[int]
    """Indices of the boxes that the text names."""
    label: Any
    """A class, soft labels as a tensor, or None."""


def all_boxes(example: Example) -> Tensor:
    """Return (1 + objects, 4) boxes in pixels, the whole image first."""
    width, height = example.size
    whole = torch.tensor([[0.0, 0.0, width, height]])
    return torch.cat([whole, torch.tensor(example.boxes)])
