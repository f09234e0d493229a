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
    """The image in RGB; itself, not a copy as `convert` gives, if it is that already."""
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True)
class ImageFile:
    """Call it for the RGB image; the same file is the same, whoever asks for it.

    where: the item that asks for it ("file:line, id"), the beginning of every error message. hint: what to do if it
        is missing. size: (width, height) that boxes were made for; another one is an error.
    """

    path: Path
    where: str = field(compare=False)
    hint: str = field(compare=False)
    size: tuple[int, int] | None = None

    def __call__(self) -> Image.Image:
        """Raises FileNotFoundError if the file is missing, ValueError if it is no whole image or of another size."""
        try:
            return self._open()
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{self.where}: {error}") from error.__cause__

    def read_bytes(self) -> bytes:
        """The file as it is."""
        return self.path.read_bytes()

    def dimensions(self) -> tuple[int, int]:
        """(width, height), from the head of the file; raises as a call does."""
        try:
            with Image.open(self.path) as image:
                return image.size
        except (OSError, SyntaxError, ValueError):
            return self().size  # says what is wrong

    def reason(self) -> str | None:
        """What is wrong with the image, or None; a JPEG is decoded at an eighth of its size, which tells as much."""
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
                f"image {self.path} is corrupt ({error}); unpack it again or leave it out"
            ) from error
        if self.size is not None and found != self.size:
            raise ValueError(
                f"image {self.path} is {found[0]} x {found[1]} pixels, its metadata says {self.size[0]} x "
                f"{self.size[1]}, so its boxes would be misplaced; use the image and metadata of the same "
                "release, unscaled"
            )
        return loaded
