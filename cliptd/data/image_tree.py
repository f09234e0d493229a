"""The images in a folder and its subfolders, held in little memory, since there may be tens of millions."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cliptd.data.pairs.pair import IMAGE_SUFFIXES


class ImageTree:
    """The paths of a folder's images, sorted. Subfolders and links to folders are searched too, each folder once.

    folder: the folder to search.
    beside: the suffix of a file that must be beside each image, such as ".txt". `lacking` holds the images without it.

    Raises FileNotFoundError if there is no such folder, or no image in it.
    """

    def __init__(self, folder: str | Path, beside: str | None = None) -> None:
        self.folder = Path(folder)
        self.lacking: list[Path] = []
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: is not a folder; expected a folder of images, or shards (.tar)"
            )
        parts = [pa.array(names, pa.large_binary()) for names in self._names(beside)]
        if not parts and not self.lacking:
            raise FileNotFoundError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
        names = pa.concat_arrays(parts) if parts else pa.array([], pa.large_binary())
        self._names_sorted = names.take(pc.array_sort_indices(names))
        self.lacking.sort()

    def __len__(self) -> int:
        return len(self._names_sorted)

    def __getitem__(self, index: int) -> Path:
        return self.folder / os.fsdecode(self._names_sorted[index].as_py())

    def relative(self) -> Iterator[str]:
        """Yield all paths, relative to the folder."""
        return (os.fsdecode(name.as_py()) for name in self._names_sorted)

    def _names(self, beside: str | None) -> Iterator[list[bytes]]:
        """Yield the paths of one folder after another, relative to the tree's folder, and note those in `lacking`."""
        seen = set()
        for root, folders, files in os.walk(self.folder, followlinks=True):
            status = os.stat(root)
            folder = (status.st_dev, status.st_ino)
            if folder in seen:  # a link to a folder that was searched already, perhaps in a circle
                folders.clear()
                continue
            seen.add(folder)
            folders.sort()
            images = [name for name in files if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
            if beside is not None:
                there = set(files)
                alone = [name for name in images if os.path.splitext(name)[0] + beside not in there]
                self.lacking += [Path(root) / name for name in alone]
                images = sorted(set(images) - set(alone))
            if images:
                below = os.path.relpath(root, self.folder)
                yield [os.fsencode(os.path.normpath(os.path.join(below, name))) for name in images]
