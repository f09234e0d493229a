"""An example of a task, and its boxes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Example(Protocol):
    """What collators and region features read of an example; its label is a class, soft labels as a tensor, or None."""

    image_key: str
    image: Callable[[], Image.Image]
    size: tuple[int, int]
    boxes: np.ndarray
    mentioned: Sequence[int]
    label: Any


def all_boxes(example: Example) -> Tensor:
    """(1 + objects, 4) boxes in pixels, the whole image first."""
    width, height = example.size
    whole = torch.tensor([[0.0, 0.0, width, height]])
    return torch.cat([whole, torch.tensor(example.boxes)])
