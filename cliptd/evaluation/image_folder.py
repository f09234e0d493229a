"""The labelled images of a classification data set, in a folder of class folders."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import open_clip
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from cliptd.data.files.text_files import read_text
from cliptd.data.images import ImageFile
from cliptd.data.pairs.pair import IMAGE_SUFFIXES

JSON_NAMES, TEXT_NAMES = "classes.json", "classnames.txt"


class LabelledImages(Protocol):
    """A classification data set: an `ImageFolder`, or another class with these attributes."""

    @property
    def folder(self) -> Path:
        """Return the folder, or a name in its place, for messages."""

    @property
    def classes(self) -> Sequence[str]:
        """Return the keys of the classes."""

    @property
    def class_names(self) -> Sequence[str]:
        """Return the names of the classes in texts, in the same order."""

    @property
    def images(self) -> Sequence[Callable[[], Image.Image]]:
        """Return functions that open the images."""

    @property
    def labels(self) -> Sequence[int]:
        """Return the position in `classes` of each image's class."""

    @property
    def ids(self) -> Sequence[str]:
        """Return the name of each image for messages."""


class ImageFolder:
    """The images FOLDER/CLASS/*.jpg (or .png, …) with their classes. Creating it opens no image.

    A class has the name of its folder, with "_" read as a space, unless the folder has a file with names: classes.json
    ({"n01440764": "tench"}) or classnames.txt (one per line, "n01440764 tench", with a space or a tab between). If all
    class folders are WordNet numbers of ImageNet, they get open_clip's names of ImageNet's classes. If they are 0 to
    999 (ImageNet-V2), they are ImageNet's classes in its order, and `classes` holds their WordNet numbers.

    classes: the class folders' names, sorted. class_names: the names of the classes in texts, in the same order.
    images: functions that open the images, sorted by class and file name. labels: their positions in `classes`. ids:
    "CLASS/file.jpg" of each. counterparts: for each class the equal classes of a set that this one is shifted from, by
    the names of its class folders; here the class itself.

    Raises:
        FileNotFoundError: there is no folder, no class, or a class without images.
        ValueError: the file with names is wrong.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder; expected one with a folder of images for each class"
            )
        entries = (
            entry for entry in self.folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
        )
        self.classes = sorted(entry.name for entry in entries)
        if not self.classes:
            raise FileNotFoundError(
                f"{folder}: holds no class; expected a folder of images for each class in it"
            )
        folders = dict(zip(self.classes, self.classes, strict=True))
        named = any((self.folder / name).is_file() for name in (JSON_NAMES, TEXT_NAMES))
        if not named and set(self.classes) == set(map(str, range(1000))):  # these would sort as texts
            folders = {number: str(k) for k, number in enumerate(_imagenet_numbers())}
            self.classes = list(folders)
        self.class_names = _class_names(self.folder, self.classes)
        self.counterparts = [[name] for name in self.classes]
        self.images: list[Callable[[], Image.Image]] = []
        self.labels: list[int] = []
        self.ids: list[str] = []
        for label, name in enumerate(self.classes):
            files = (self.folder / folders[name]).iterdir()
            paths = sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)
            if not paths:
                raise FileNotFoundError(
                    f"{self.folder / folders[name]}: the class holds no image ({', '.join(IMAGE_SUFFIXES)}); fill it "
                    "or remove its folder"
                )
            self.images += [ImageFile(path, f"class {name!r}", "it was there a moment ago") for path in paths]
            self.labels += [label] * len(paths)
            self.ids += [f"{folders[name]}/{path.name}" for path in paths]

    def __len__(self) -> int:
        return len(self.images)


def _class_names(folder: Path, classes: list[str]) -> list[str]:
    files = [folder / name for name in (JSON_NAMES, TEXT_NAMES) if (folder / name).is_file()]
    if not files:
        if all(re.fullmatch(r"n\d{8}", name) for name in classes):
            return _imagenet_names(folder, classes)
        return [name.replace("_", " ") for name in classes]
    if len(files) > 1:
        raise ValueError(
            f"{folder}: names its classes in {JSON_NAMES} and in {TEXT_NAMES}; remove one of them"
        )
    (file,) = files
    names = read_names(file) if file.name == JSON_NAMES else _read_lines(file)
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(
            f"{file}: has no name for the class folder {missing[0]!r} ({len(missing)} such); add it, or remove the "
            "file to use the folders' names"
        )
    return [names[name] for name in classes]


def _imagenet_numbers() -> list[str]:
    """Return the WordNet numbers of ImageNet's classes in its order, which is also that of open_clip's names."""
    return ImageNetInfo("imagenet-1k").label_names()


def _imagenet_names(folder: Path, classes: list[str]) -> list[str]:
    names = dict(zip(_imagenet_numbers(), open_clip.IMAGENET_CLASSNAMES, strict=True))
    unknown = [number for number in classes if number not in names]
    if unknown:
        raise ValueError(
            f"{folder}: its class folder {unknown[0]} ({len(unknown)} such) is a WordNet number that is none of "
            f"ImageNet's 1,000, so its name is unknown; name the classes in {JSON_NAMES}: "
            f'{{"{unknown[0]}": "its name"}}'
        )
    return [names[number] for number in classes]


def read_names(file: Path) -> dict[str, str]:
    """Read a JSON object of texts. Raises FileNotFoundError or ValueError naming the file and what was found."""
    expected = f'{file}: expected one JSON object of names by class folder, such as {{"n01440764": "tench"}}'
    try:
        names = json.loads(read_text(file))
    except ValueError as error:
        raise ValueError(f"{expected}; found no JSON: {error}") from error
    if not isinstance(names, dict):
        raise ValueError(f"{expected}; found a JSON {type(names).__name__}")
    for name, value in names.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{expected}; found {value!r} for {name!r}")
    return {name: value.strip() for name, value in names.items()}


def _read_lines(file: Path) -> dict[str, str]:
    names = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        parts = [part.strip() for part in line.split("\t" if "\t" in line else None, maxsplit=1)]
        if not line.strip():
            continue
        if len(parts) != 2 or not all(parts):
            raise ValueError(
                f"{file}:{number}: found {line!r}, expected a class folder and its name, such as 'n01440764 tench'"
            )
        names[parts[0]] = parts[1]
    return names
