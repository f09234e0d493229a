"""Images and sentences that are no pairs: a folder or shards of images, text files or shards of sentences."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image
from torch import Tensor

from cliptd.data.identity import identity_of, identity_of_folder, state_of
from cliptd.data.image_tree import ImageTree
from cliptd.data.images import ImageFile
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import OnBadSample, Pair
from cliptd.data.pairs.tar_pairs import TarSamples, shards_of
from cliptd.unpaired.sentence_files import TextLines
from cliptd.utils.seeds import derive_seed


class KeyedImage(NamedTuple):
    """An image, or a function that opens it, with a key that no other image has."""

    key: str
    image: Image.Image | Tensor | Callable[[], Image.Image | Tensor]


class Images(Protocol):
    """A map-style data set of images."""

    @property
    def name(self) -> str | Path:
        """Return the name for messages."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, index: int, /) -> KeyedImage:
        """Return an image, unopened if it is a file."""


class Sentences(Protocol):
    """A map-style data set of texts."""

    @property
    def name(self) -> str | Path:
        """Return the name for messages."""

    def __len__(self) -> int:
        """Return the number of texts."""

    def __getitem__(self, index: int, /) -> str:
        """Return a text."""

    def part(self, start: int, stop: int) -> list[str]:
        """Return the texts from start to before stop. A text that is skipped is "" and listed in `skipped`."""


def load_images(source: str | Path, *, on_bad_sample: OnBadSample = "raise") -> Images:
    """Return the images of a folder with its subfolders, or of webdataset shards ("data/{000..099}.tar").

    Texts in the shards are not read.

    Raises:
        FileNotFoundError, ValueError: the message names the file, what was found and what was expected.
    """
    if str(source).endswith((".tar", ".tar.gz", ".tgz")):
        return TarImages(shards_of(str(source)), on_bad_sample=on_bad_sample)
    return FolderImages(source)


def load_sentences(
    source: str | Path, *, text_column: str = "caption", on_bad_sample: OnBadSample = "raise"
) -> Sentences:
    """Return the sentences of UTF-8 text files, or of webdataset shards.

    Args:
        source: a path or a pattern of .txt or .txt.gz files with one sentence per line, or a pattern of shards.
        text_column: the key of the text in a shard's .json files, for samples without a .txt.
        on_bad_sample: "raise" at a line or sample without a readable text, or "skip" it.

    Raises:
        FileNotFoundError, ValueError: the message names the file, what was found and what was expected.
    """
    if str(source).endswith((".tar", ".tar.gz", ".tgz")):
        return TarTexts(shards_of(str(source)), text_column=text_column, on_bad_sample=on_bad_sample)
    return TextLines(source, on_bad_sample=on_bad_sample)


class ImagesOf:
    """A map-style data set of the images of pairs."""

    def __init__(self, pairs: MapStyle[Pair]) -> None:
        self.pairs = pairs
        self.name = f"images of {getattr(pairs, 'name', type(pairs).__name__)}"
        self.identity = f"images of {identity_of(pairs)}"
        self.state = state_of(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> KeyedImage:
        return KeyedImage(*self.pairs[index][:2])


class TextsOf:
    """A map-style data set of the texts of pairs."""

    def __init__(self, pairs: MapStyle[Pair]) -> None:
        self.pairs = pairs
        self.name = f"texts of {getattr(pairs, 'name', type(pairs).__name__)}"
        self.identity = f"texts of {identity_of(pairs)}"
        self.state = state_of(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> str:
        return self.pairs[index].text

    def part(self, start: int, stop: int) -> list[str]:
        """Return the texts from start to before stop."""
        return [self[index] for index in range(start, min(stop, len(self)))]


class FolderImages:
    """A map-style data set of the images in a folder and its subfolders, sorted by path.

    Raises:
        FileNotFoundError: there is no folder, or no image in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.name = str(folder)
        self.paths = ImageTree(folder)
        self.identity = self.state = identity_of_folder(folder, self.paths.relative())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> KeyedImage:
        path = self.paths[index]
        return KeyedImage(str(path.resolve()), ImageFile(path, str(path), "it was there a moment ago"))


class TarImages(TarSamples):
    """A map-style data set of the images in webdataset shards. It raises as `TarSamples` does."""

    def __init__(self, shards: Sequence[Path], *, on_bad_sample: OnBadSample = "raise") -> None:
        super().__init__(shards, ("image",), on_bad_sample=on_bad_sample)

    def __getitem__(self, position: int) -> KeyedImage:
        row = self.row(position)
        return KeyedImage(self.key(row), self.image(row))


class TarTexts(TarSamples):
    """A map-style data set of the texts in webdataset shards. It raises as `TarSamples` does."""

    def __init__(
        self, shards: Sequence[Path], *, text_column: str = "caption", on_bad_sample: OnBadSample = "raise"
    ) -> None:
        super().__init__(shards, ("text",), text_column=text_column, on_bad_sample=on_bad_sample)

    def __getitem__(self, position: int) -> str:
        return self.text(self.row(position))

    def part(self, start: int, stop: int) -> list[str]:
        """Return the texts from start to before stop. With "skip" a bad one is "" and listed in `skipped`."""
        return [self._or_blank(position) for position in range(start, min(stop, len(self)))]

    def _or_blank(self, position: int) -> str:
        try:
            return self[position]
        except ValueError as error:
            if self.on_bad_sample == "raise":
                raise
            if str(error) not in self.skipped:
                self.skipped.append(str(error))
            return ""


class UnpairedPairs:
    """A map-style data set of `Pair` whose image and text have nothing to do with one another.

    It is as long as the longer side, and the shorter side is repeated. Sentences come in an order that the seed
    decides. So files of pairs, given both as images and as sentences, become unpaired.

    Raises:
        ValueError: one side is empty.
    """

    def __init__(self, images: Images, sentences: Sentences, *, seed: int = 0) -> None:
        if not len(images) or not len(sentences):
            raise ValueError(
                f"found {len(images)} images and {len(sentences)} sentences; expected at least one of each"
            )
        self.images, self.sentences, self.seed = images, sentences, seed
        self.name = f"{images.name} and {sentences.name}"
        self.identity = f"{identity_of(images)} and {identity_of(sentences)}, seed {seed}"
        states = [state for side in (images, sentences) if (state := state_of(side)) is not None]
        self.state = " and ".join(states) if len(states) == 2 else None
        self.skipped = [reason for side in (images, sentences) for reason in getattr(side, "skipped", ())]
        # k → a·k + b (mod n) visits each sentence once per round if a and n are coprime. At most gcd(a - 1, n) of them
        # keep their place.
        n = len(sentences)
        near = max(1, round(n * 0.618034))
        coprime = (a for a in range(near, near + n) if math.gcd(a, n) == 1)
        self._step = min(itertools.islice(coprime, 64), key=lambda a: math.gcd(a - 1, n))
        self._first = derive_seed(seed, "sentences") % n

    def __len__(self) -> int:
        return max(len(self.images), len(self.sentences))

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of a data set of {len(self)}")
        key, image = self.images[index % len(self.images)]
        sentence = self.sentences[(index * self._step + self._first) % len(self.sentences)]
        return Pair(key, image, sentence)
