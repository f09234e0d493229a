"""The embeddings of a data set: images are read in threads, and images and texts are embedded in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from cliptd.data.images import AnyImage, open_image
from cliptd.data.pairs.pair import OnBadSample
from cliptd.utils.finite import check_finite
from cliptd.utils.read_ahead import read_ahead

"""An image, or a function that opens it."""
BATCH_SIZE = 256
"""The batch size of a model that has no `batch_size`."""


class DualEncoder(Protocol):
    """A model to evaluate: a teacher of `cliptd.load_teacher`, a student, or another class with these methods."""

    def encode_images(self, images: Sequence[Image.Image | Tensor], /) -> Tensor:
        """Embed images: (images, dim) of unit length."""

    def encode_texts(self, texts: Sequence[str], /) -> Tensor:
        """Embed texts: (texts, dim) of unit length."""


@dataclass(frozen=True)
class EmbeddedImages:
    """The embeddings of the images that could be read.

    embeds: (kept, dim), on the model's device. kept: the positions of these images. skipped: the reasons of the others.
    """

    embeds: Tensor
    kept: list[int]
    skipped: list[str]


def embed_images(
    model: DualEncoder,
    images: Sequence[AnyImage],
    names: Sequence[str],
    *,
    on_bad_sample: OnBadSample = "raise",
    description: str = "images",
) -> EmbeddedImages:
    """Read and embed images.

    At most two batches of images are in memory. If the model has `pixels`, they are transformed images.

    Args:
        images: images, or functions that open them.
        names: the name of each image for messages.
        on_bad_sample: "raise" at an image that cannot be opened, or "skip" it and list it.
        description: the label of the progress bar.

    Raises:
        ValueError: no image can be opened, or an embedding is not finite; or as an image that cannot be opened.
    """
    if on_bad_sample not in ("raise", "skip"):
        raise ValueError(f"on_bad_sample is {on_bad_sample!r}; choose 'raise' or 'skip'")
    parts: list[Tensor] = []
    kept: list[int] = []
    skipped: list[str] = []
    pixels = getattr(model, "pixels", None)  # the model's transform, run in the threads

    def read(position: int) -> Image.Image | Tensor | str:
        try:
            image = open_image(images[position])
            return image if pixels is None else pixels([image], [names[position]])[0]
        except (OSError, SyntaxError, ValueError) as error:
            if on_bad_sample == "raise":
                raise
            return str(error)

    size = _batch_size(model)
    found = read_ahead(read, range(len(images)), ahead=size)
    with tqdm(total=len(images), desc=description, unit="image", disable=None) as bar:
        for start in range(0, len(images), size):
            positions = range(start, min(start + size, len(images)))
            batch = dict(zip(positions, found, strict=False))
            skipped += [reason for reason in batch.values() if isinstance(reason, str)]
            opened = {position: image for position, image in batch.items() if not isinstance(image, str)}
            if opened:
                embeds = model.encode_images(list(opened.values()))
                parts.append(
                    check_finite(embeds, "image", [names[position] for position in opened], _name(model))
                )
                kept += opened
            bar.update(len(positions))
    if not kept:
        first = f"; the first: {skipped[0]}" if skipped else ""
        raise ValueError(f"{description}: none of {len(images)} images can be opened{first}")
    return EmbeddedImages(torch.cat(parts), kept, skipped)


def embed_texts(model: DualEncoder, texts: Sequence[str], *, description: str = "texts") -> Tensor:
    """Embed texts: (texts, dim), on the model's device. Raises ValueError for an embedding that is not finite."""
    size, parts = _batch_size(model), []
    with tqdm(total=len(texts), desc=description, unit="text", disable=None) as bar:
        for start in range(0, len(texts), size):
            batch = texts[start : start + size]
            parts.append(check_finite(model.encode_texts(batch), "text", batch, _name(model)))
            bar.update(len(batch))
    return torch.cat(parts)


def _batch_size(model: DualEncoder) -> int:
    return getattr(model, "batch_size", BATCH_SIZE)


def _name(model: DualEncoder) -> str:
    return getattr(model, "name", "the model")
