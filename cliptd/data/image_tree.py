"""The images in a folder and in its subfolders, in little memory: there may be tens of millions of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cliptd.data.pairs.pair import IMAGE_SUFFIXES


class ImageTree:
    """Paths of a folder's images relative to it, sorted; subfolders and links to folders count, each folder once.

    beside: the suffix of a file that has to lie beside each, such as ".txt"; `lacking` are the paths of those without.

    Raises FileNotFoundError for no folder or no image, of either kind.
    """

    def __init__(self, folder: str | Path, beside: str | None = None) -> None:
        self.folder = Path(folder)
        self.lacking: list[Path] = []
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{folder}: is no folder; expected a folder of images, or shards (.tar)")
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
        """All paths, relative to the folder."""
        return (os.fsdecode(name.as_py()) for name in self._names_sorted)

    def _names(self, beside: str | None) -> Iterator[list[bytes]]:
        """Of one folder after the other."""
        seen = set()
        for root, folders, files in os.walk(self.folder, followlinks=True):
            status = os.stat(root)
            if (
                status.st_dev,
                status.st_ino,
            ) in seen:  # a link to a folder that counts already, or around in a circle
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
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
