"""A folder of images, each with its text in a .txt of the same name."""

from pathlib import Path

from cliptd.data.files.text_files import read_text
from cliptd.data.identity import identity_of_folder
from cliptd.data.image_tree import ImageTree
from cliptd.data.images import ImageFile
from cliptd.data.pairs.pair import OnBadSample, Pair


class FolderPairs:
    """A map-style dataset of `Pair`s, sorted by path. Subfolders and links to folders are searched too.

    A .txt of several lines is one text.

    on_bad_sample: "raise" at an image without text, or "skip" it and list it in `skipped`.

    Raises FileNotFoundError if there is no folder or no image in it, ValueError if an image has no text.
    """

    def __init__(self, folder: str | Path, *, on_bad_sample: OnBadSample = "raise") -> None:
        self.folder = Path(folder)
        self.images = ImageTree(folder, beside=".txt")
        self.skipped = [
            f"{path}: has no text {path.with_suffix('.txt').name} beside it" for path in self.images.lacking
        ]
        if self.skipped and on_bad_sample == "raise":
            raise ValueError(
                f"{self.skipped[0]} ({len(self.skipped)} such); use on_bad_sample 'skip' to skip them"
            )
        self.identity = identity_of_folder(folder, self.images.relative())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pair:
        path = self.images[index]
        text = " ".join(read_text(path.with_suffix(".txt")).split())
        if not text:
            raise ValueError(f"{path.with_suffix('.txt')}: is empty, expected a text")
        return Pair(str(path.resolve()), ImageFile(path, str(path), "it was there a moment ago"), text)
