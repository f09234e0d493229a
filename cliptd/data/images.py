"""Images of a data set: as they are, or as files that open when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image

if TYPE_CHECKING:  # settings import this module, and must not cost torch
    from torch import Tensor

AnyImage: TypeAlias = "Image.Image | Tensor | Callable[[], Image.Image | Tensor]"
"""An image, or a function that opens it."""


def open_image(image: AnyImage) -> "Image.Image | Tensor":
    """Return the image, which is opened first if it is a function. Raises what the function raises."""
    return image() if callable(image) else image


def as_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB. An image that is RGB already is returned as it is, not as a copy."""
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True)
class ImageFile:
    """An image file, called to open it in RGB. Two of one path and size are equal.

    where: the item of the image ("file:line, id"), with which every error message begins.
    hint: what to do if the file is missing.
    size: the (width, height) for which boxes were made. An image of another size is an error. None: any size.
    """

    path: Path
    where: str = field(compare=False)
    hint: str = field(compare=False)
    size: tuple[int, int] | None = None

    def __call__(self) -> Image.Image:
        """Open the image. Raises FileNotFoundError if it is missing, ValueError if it is corrupt or of another size."""
        try:
            return self._open()
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{self.where}: {error}") from error.__cause__

    def read_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return self.path.read_bytes()

    def dimensions(self) -> tuple[int, int]:
        """Return (width, height), read from the header of the file. Raises as `__call__` does."""
        try:
            with Image.open(self.path) as image:
                return image.size
        except (OSError, SyntaxError, ValueError):
            return self().size  # or an error that says what is wrong

    def reason(self) -> str | None:
        """Return what is wrong with the image, or None. A JPEG is decoded at an eighth of its size, which is enough."""
        try:
            self._open(quick=True)
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        return None

    def _open(self, quick: bool = False) -> Image.Image:
        try:
            with Image.open(self.path) as image:
                found = image.size
                if quick:
                    image.draft("RGB", (max(1, found[0] // 8), max(1, found[1] // 8)))
                image.load()
                loaded = as_rgb(image)
        except FileNotFoundError:
            raise FileNotFoundError(f"image {self.path} is missing; {self.hint}") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"image {self.path} is corrupt ({error}); unpack it again or remove it from the data"
            ) from error
        if self.size is not None and found != self.size:
            raise ValueError(
                f"image {self.path} is {found[0]} x {found[1]} pixels, its metadata says {self.size[0]} x "
                f"{self.size[1]}, so its boxes would be misplaced; use the image and metadata of the same "
                "release, unscaled"
            )
        return loaded
