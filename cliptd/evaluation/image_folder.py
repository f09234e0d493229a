"""A folder of class folders: the labelled images of a classification data set."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import open_clip
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from cliptd.data.files.text_files import read_text
from cliptd.data.images import ImageFile
from cliptd.data.pairs.pair import IMAGE_SUFFIXES

JSON_NAMES, TEXT_NAMES = "classes.json", "classnames.txt"


class ImageFolder:
    """FOLDER/CLASS/*.jpg (or .png, …): which images there are and of which class; none is opened here.

    A class is called by its folder's name, "_" read as a space, unless the folder holds names: classes.json
    ({"n01440764": "tench"}) or classnames.txt (a line each, "n01440764 tench", or with a tab between). Folders of
    ImageNet's WordNet numbers, all of them or a part, have open_clip's names of ImageNet's classes; folders 0 to 999
    (ImageNet-V2) without such a file are these classes in ImageNet's order, and `classes` gives their WordNet numbers.

    `classes`: the class folders' names, sorted. `class_names`: what texts call them, in the same order. `images`: an
    `ImageFile` each, sorted by class and file name; a call opens it. `labels`: their positions in `classes`. `ids`:
    "CLASS/file.jpg" of each. `counterparts`: what each class is in a set that this one is shifted from, by the other's
    class folders; here itself.

    Raises FileNotFoundError for no folder, no class or a class without images, ValueError for a wrong file of names.
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
        if not named and set(self.classes) == set(map(str, range(1000))):  # which sort as texts otherwise
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
            "file to call classes by their folders"
        )
    return [names[name] for name in classes]


def _imagenet_numbers() -> list[str]:
    """WordNet numbers of ImageNet's classes, in its order, which is also that of the texts."""
    return ImageNetInfo("imagenet-1k").label_names()


def _imagenet_names(folder: Path, classes: list[str]) -> list[str]:
    names = dict(zip(_imagenet_numbers(), open_clip.IMAGENET_CLASSNAMES, strict=True))
    unknown = [number for number in classes if number not in names]
    if unknown:
        raise ValueError(
            f"{folder}: its class folder {unknown[0]} ({len(unknown)} such) is called by a WordNet number, none of "
            f"ImageNet's 1,000, so no text can say what it shows; name the classes in {JSON_NAMES}: "
            f'{{"{unknown[0]}": "its name"}}'
        )
    return [names[number] for number in classes]


def read_names(file: Path) -> dict[str, str]:
    """A JSON object of texts. Raises FileNotFoundError, ValueError naming the file and what is wrong with it."""
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
