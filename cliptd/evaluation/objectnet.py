"""ObjectNet (objectnet.dev) as a test set shifted from ImageNet: the classes that both have, without the borders."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from cliptd.evaluation.image_folder import ImageFolder, read_names

OF_FOLDERS = Path("mappings", "folder_to_objectnet_label.json")
OF_IMAGENET = Path("mappings", "objectnet_to_imagenet_1k.json")
BORDER = 2
"""Pixels to cut off each side: the red frame that its authors ask to remove, and its blur in a JPEG."""


class ObjectNet(ImageFolder):
    """The images FOLDER/images/CLASS/*.png with FOLDER/mappings, as they come out of the archive.

    Only class folders in `mappings/objectnet_to_imagenet_1k.json` are read, 113 in all. A class may equal several of
    ImageNet's: a chair is a barber chair, a folding chair or a rocking chair. `counterparts` holds their WordNet
    numbers, and each of them counts as right (as in arXiv 2109.01903). Everything else is as in an `ImageFolder`.

    Raises:
        FileNotFoundError, ValueError: as for `ImageFolder`; or the mappings lack a class, or name one that ImageNet
            does not have.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        labels, of_imagenet = read_names(folder / OF_FOLDERS), read_names(folder / OF_IMAGENET)
        imagenet = ImageNetInfo("imagenet-1k")
        numbers = dict(zip(imagenet.label_descriptions(), imagenet.label_names(), strict=True))
        super().__init__(folder / "images")
        unlabelled = [name for name in self.classes if name not in labels]
        if unlabelled:
            raise ValueError(
                f"{folder / OF_FOLDERS}: has no label for the class folder {unlabelled[0]!r} ({len(unlabelled)} such); "
                "use images and mappings of one release"
            )
        kept = [k for k, name in enumerate(self.classes) if labels[name] in of_imagenet]
        if not kept:
            raise ValueError(
                f"{folder / 'images'}: none of its class folders is in {folder / OF_IMAGENET}; use images and mappings "
                "of one release"
            )
        self.counterparts = []
        for k in kept:
            label = labels[self.classes[k]]
            names = of_imagenet[label].split("; ")
            unknown = [name for name in names if name not in numbers]
            if unknown:
                raise ValueError(
                    f"{folder / OF_IMAGENET}: {label!r} is {unknown[0]!r}, which is no class of ImageNet; take the "
                    "file from the archive"
                )
            self.counterparts.append([numbers[name] for name in names])
        place = {k: position for position, k in enumerate(kept)}
        rows = [row for row, label in enumerate(self.labels) if label in place]
        self.class_names = [labels[self.classes[k]].lower() for k in kept]
        self.classes = [self.classes[k] for k in kept]
        self.images = [Unframed(self.images[row]) for row in rows]
        self.ids = [self.ids[row] for row in rows]
        self.labels = [place[self.labels[row]] for row in rows]


@dataclass(frozen=True)
class Unframed:
    """A function that opens an image without its border."""

    image: Callable[[], Image.Image]

    def __call__(self) -> Image.Image:
        """Return the image without its border."""
        image = self.image()
        return image.crop((BORDER, BORDER, image.width - BORDER, image.height - BORDER))


def labelled_images(folder: str | Path) -> ImageFolder:
    """Return an `ObjectNet` if its mappings are in the folder, or else an `ImageFolder`."""
    return ObjectNet(folder) if (Path(folder) / OF_IMAGENET).is_file() else ImageFolder(folder)
