"""A teacher: a frozen image–text dual encoder with its own image transform and its own tokenizer.

open_clip models, transformers CLIP and SigLIP, and ensembles have the same attributes and methods: `encode_images`,
`encode_texts`, `logit_scale`, `fingerprint`. The student's transform and tokenizer may differ from the teacher's.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import to_pil_image

from cliptd.teachers.fingerprints import PROBES, fingerprint_of_teacher
from cliptd.teachers.similarity import Similarity

MAX_LOGIT_SCALE = 100.0
"""The largest logit scale that training allows, as CLIP's authors do (arXiv 2103.00020)."""
Tokens = Tensor | dict[str, Tensor]
"""(texts, tokens) ids, or several such columns by their names."""


class ImageError(ValueError):
    """An error of opening, decoding or transforming the image `name`."""

    def __init__(self, name: str, cause: object):
        super().__init__(f"image {name} cannot be read: {cause}; replace the file or remove it from the data")
        self.name, self.cause = name, cause

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.name, str(self.cause))  # a worker process sends it to the one that waits


class Teacher(Similarity, nn.Module, ABC):
    """A frozen dual encoder. It is always in eval mode, records no gradients and ignores an outer autocast.

    Subclasses make features of pixels and of tokens. `cliptd.load_teacher` makes a teacher.

    Args:
        model: the encoder, which is frozen in place.
        name: the teacher's name in error messages and in the index of a store.
        batch_size: images or texts per forward.
    """

    def __init__(self, model: nn.Module, name: str, batch_size: int = 256):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        self.model = model.requires_grad_(False).eval()
        self.name = name
        self.batch_size = batch_size
        bias = getattr(model, "logit_bias", None)
        scale = model.logit_scale
        assert isinstance(scale, Tensor)  # a module's attribute may also be a module
        self.logit_scale = float(scale.detach().float().exp())
        self.logit_bias = None if bias is None else float(bias.detach())
        self.pixel_shape = self.image_transform(Image.new("RGB", (16, 16))).shape
        self.embed_dim = self.encode_texts(PROBES[:1]).shape[-1]

    @abstractmethod
    def image_transform(self, image: Image.Image) -> Tensor:
        """Preprocess a PIL image of any mode as the teacher needs it: (3, height, width) float32."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return the teacher's own token ids, padded to its context length: (texts, tokens), or a dict of such."""

    @abstractmethod
    def image_features(self, pixels: Tensor) -> Tensor:
        """Return (batch, dim), not normalised, of (batch, 3, height, width) pixels."""

    @abstractmethod
    def text_features(self, tokens: Tokens) -> Tensor:
        """Return (batch, dim), not normalised, of the tokens that `tokenize` returns."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the transform and the vocabulary, on which an embedding depends beside the weights, as JSON values."""

    @property
    def members(self) -> "Sequence[Teacher]":
        """Return the teacher itself, as the only member of an ensemble of one."""
        return [self]

    @property
    def device(self) -> torch.device:
        """Return the device of the weights and of the embeddings."""
        return next(self.model.parameters()).device

    @cached_property
    def transform_name(self) -> str:
        """Return a name of the transform. Teachers with the same name see the same pixels."""
        return f"{tuple(self.pixel_shape)} {self.describe()['transform']}"

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in eval mode, so that the `.train()` of a parent module does not switch on dropout."""
        return super().train(False)

    def encode_images(
        self, images: Sequence[Image.Image | Tensor] | Tensor, names: Sequence[str] | None = None
    ) -> Tensor:
        """Embed images.

        Args:
            images: PIL images of any mode and size, uint8 tensors (3, h, w) of raw pixels, or float tensors
                (3, H, W) that `image_transform` made. Instead of a list, a tensor (n, 3, H, W) may be given.
            names: the name of each image in an error; by default its file name or position.

        Returns:
            (n, dim) float32 of unit length, on the teacher's device.

        Raises:
            ImageError: an image cannot be decoded; the message names it.
        """
        named = names or [image_name(image, i) for i, image in enumerate(images)]
        return self._encode(
            self.image_features(self._moved(self.pixels(images[part], named[part])))
            for part in self._batches(len(images))
        )

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: (n, dim) float32 of unit length, on `device`. Texts that are too long are truncated."""
        if isinstance(texts, str):
            raise TypeError(f"encode_texts takes a list of texts, found the single text {texts!r}")
        return self._encode(
            self.text_features(self._tokens(self.tokenize(list(texts[part]))))
            for part in self._batches(len(texts))
        )

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """Embed the result of `pixels`, (n, 3, height, width): (n, dim) float32 of unit length, on `device`."""
        return self._encode(
            self.image_features(self._moved(pixels[part])) for part in self._batches(len(pixels))
        )

    def embed_tokens(self, tokens: Tokens) -> Tensor:
        """Embed the result of `tokenize`: (n, dim) float32 of unit length, on `device`."""
        ids = tokens if isinstance(tokens, Tensor) else next(iter(tokens.values()))
        return self._encode(
            self.text_features(self._tokens(tokens, part)) for part in self._batches(len(ids))
        )

    def _batches(self, count: int) -> list[slice]:
        return [slice(start, start + self.batch_size) for start in range(0, count, self.batch_size)]

    def _encode(self, features: Iterator[Tensor]) -> Tensor:
        """Normalise and join features, which are computed here without gradients, autocast or inference mode."""
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            parts = [F.normalize(part.float(), dim=-1) for part in features]
            return torch.cat(parts) if parts else torch.zeros(0, self.embed_dim, device=self.device)

    def pixels(self, images: Sequence[Image.Image | Tensor] | Tensor, names: Sequence[str]) -> Tensor:
        """Return the pixels of images as `encode_images` takes them: (batch, 3, height, width) float32, on the CPU."""
        return torch.stack([self._one_image(image, name) for image, name in zip(images, names, strict=True)])

    def _one_image(self, image: Image.Image | Tensor, name: str) -> Tensor:
        if isinstance(image, Tensor) and image.is_floating_point():
            if image.shape != self.pixel_shape:
                raise ImageError(
                    name,
                    f"float tensor of shape {tuple(image.shape)}, expected image_transform's {tuple(self.pixel_shape)}",
                )
            return image.cpu()
        if isinstance(image, Tensor) and image.dtype == torch.uint8:
            image = to_pil_image(image.cpu())
        if not isinstance(image, Image.Image):
            found = f"{image.dtype} tensor" if isinstance(image, Tensor) else type(image).__name__
            raise ImageError(name, f"found a {found}, expected a PIL image or a uint8 or float tensor")
        try:
            return self.image_transform(image)
        except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
            raise ImageError(name, error) from error

    def _moved(self, pixels: Tensor) -> Tensor:
        """Return pixels on the teacher's device, in the type of its weights."""
        return pixels.to(self.device, next(self.model.parameters()).dtype)

    def _tokens(self, tokens: Tokens, part: slice = slice(None)) -> Tokens:
        """Return a part of the texts' tokens on the teacher's device."""
        if isinstance(tokens, Tensor):
            return tokens[part].to(self.device)
        return {name: ids[part].to(self.device) for name, ids in tokens.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Return "sha256:" and 16 hex digits of the weights with their precision, the transform and the tokens.

        It is computed once, at the first use, in about a second for each GB. The weights must stay frozen.
        """
        return fingerprint_of_teacher(self.model, self.tokenize, self.describe())


def image_name(image: object, position: int) -> str:
    """Return the file name of an image, or else its position."""
    return getattr(image, "filename", "") or f"at position {position}"
