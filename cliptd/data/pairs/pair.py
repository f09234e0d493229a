"""An image–text pair, and the choices and file suffixes of every data set of pairs."""

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # settings import this module, and must not cost torch
    from cliptd.data.images import AnyImage

OnBadSample = Literal["raise", "skip"]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Pair(NamedTuple):
    """An image and a text that is true of it. Pairs of one `key` show the same image."""

    key: str
    image: "AnyImage"
    text: str
