"""Images and sentences that never met: a folder or shards of the one, text files or shards of the other."""

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
from cliptd.data.pairs.pair import OnBadSample, Pair
from cliptd.data.pairs.tar_pairs import TarSamples, shards_of
from cliptd.unpaired.sentence_files import TextLines
from cliptd.utils.seeds import derive_seed


class KeyedImage(NamedTuple):
    """An image, or a function that opens it, and what tells it from all others."""

    key: str
    image: Image.Image | Tensor | Callable[[], Image.Image | Tensor]


class Images(Protocol):
    """A map-style data set of images."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> KeyedImage: ...


class Sentences(Protocol):
    """A map-style data set of texts."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> str: ...

    def part(self, start: int, stop: int) -> list[str]:
        """The texts from start to before stop; "" for one that is wrong and may be left out, which `skipped` lists."""


def load_images(source: str | Path, *, on_bad_sample: OnBadSample = "raise") -> Images:
    """The images of a folder, subfolders too, or of webdataset shards ("data/{000..099}.tar"); texts are not looked at.

    Raises FileNotFoundError, ValueError: they name the file, what was found and what was expected.
    """
    if str(source).endswith((".tar", ".tar.gz", ".tgz")):
        return TarImages(shards_of(str(source)), on_bad_sample=on_bad_sample)
    return FolderImages(source)


def load_sentences(
    source: str | Path, *, text_column: str = "caption", on_bad_sample: OnBadSample = "raise"
) -> Sentences:
    """The sentences of UTF-8 text files, one a line (a path or a pattern, .txt or .txt.gz), or of webdataset shards.

    text_column: of a shard's .json where it has no .txt.

    Raises FileNotFoundError, ValueError: they name the file, what was found and what was expected.
    """
    if str(source).endswith((".tar", ".tar.gz", ".tgz")):
        return TarTexts(shards_of(str(source)), text_column=text_column, on_bad_sample=on_bad_sample)
    return TextLines(source, on_bad_sample=on_bad_sample)


class ImagesOf:
    """The images of pairs. Map-style data set of `KeyedImage`."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.name = f"images of {getattr(pairs, 'name', type(pairs).__name__)}"
        self.identity = f"images of {identity_of(pairs)}"
        self.state = state_of(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> KeyedImage:
        return KeyedImage(*self.pairs[index][:2])


class TextsOf:
    """The texts of pairs."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.name = f"texts of {getattr(pairs, 'name', type(pairs).__name__)}"
        self.identity = f"texts of {identity_of(pairs)}"
        self.state = state_of(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> str:
        return self.pairs[index].text

    def part(self, start: int, stop: int) -> list[str]:
        """The texts from start to before stop."""
        return [self[index] for index in range(start, min(stop, len(self)))]


class FolderImages:
    """Map-style data set of `KeyedImage`, sorted by path. Raises FileNotFoundError for no folder or no image."""

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
    """Map-style data set of `KeyedImage` out of shards; errors as of `TarSamples`."""

    def __init__(self, shards: Sequence[Path], *, on_bad_sample: OnBadSample = "raise") -> None:
        super().__init__(shards, ("image",), on_bad_sample=on_bad_sample)

    def __getitem__(self, position: int) -> KeyedImage:
        row = self.row(position)
        return KeyedImage(self.key(row), self.image(row))


class TarTexts(TarSamples):
    """Map-style data set of the texts of shards; errors as of `TarSamples`."""

    def __init__(
        self, shards: Sequence[Path], *, text_column: str = "caption", on_bad_sample: OnBadSample = "raise"
    ) -> None:
        super().__init__(shards, ("text",), text_column=text_column, on_bad_sample=on_bad_sample)

    def __getitem__(self, position: int) -> str:
        return self.text(self.row(position))

    def part(self, start: int, stop: int) -> list[str]:
        """The texts from start to before stop; under "skip" "" for one that is wrong, which `skipped` lists."""
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
    """Images and sentences side by side that have nothing to do with one another, as often as the longer side is long.

    Sentences come in an order of their own, so that files of pairs, given as images and as sentences, are unpaired.
    Map-style dataset of `Pair`, the same for the same seed.

    Raises ValueError if either is empty.
    """

    def __init__(self, images: Images, sentences: Sentences, *, seed: int = 0) -> None:
        if not len(images) or not len(sentences):
            raise ValueError(
                f"found {len(images)} images and {len(sentences)} sentences; expected one at least"
            )
        self.images, self.sentences, self.seed = images, sentences, seed
        self.name = f"{images.name} and {sentences.name}"
        self.identity = f"{identity_of(images)} and {identity_of(sentences)}, seed {seed}"
        states = [state_of(side) for side in (images, sentences)]
        self.state = None if None in states else " and ".join(states)
        self.skipped = [reason for side in (images, sentences) for reason in getattr(side, "skipped", ())]
        # k → a·k + b (mod n) is each sentence once a round if a and n are coprime, and gcd(a - 1, n) of them stay where
        # they were at most.
        n = len(sentences)
        near = max(1, round(n * 0.618034))
        coprime = (a for a in range(near, near + n) if math.gcd(a, n) == 1)
        self._step = min(itertools.islice(coprime, 64), key=lambda a: math.gcd(a - 1, n))
        self._first = derive_seed(seed, "sentences") % n

    def __len__(self) -> int:
        return max(len(self.images), len(self.sentences))

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        key, image = self.images[index % len(self.images)]
        sentence = self.sentences[(index * self._step + self._first) % len(self.sentences)]
        return Pair(key, image, sentence)
