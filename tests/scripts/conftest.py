"""A cache folder of the session's own, so that iconworld is written once; the files of a user."""

import io
import tarfile
from pathlib import Path

import pytest

from tasks.iconworld.files.classes import IconClasses
from tasks.iconworld.files.pairs import IconworldPairs


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def of_a_user(tmp_path_factory):
    """Two shards and a folder of classes."""
    folder = tmp_path_factory.mktemp("data")
    pairs = IconworldPairs(24)
    for number in range(2):
        with tarfile.open(folder / f"{number:02d}.tar", "w") as tar:
            for index in range(12 * number, 12 * number + 12):
                file = io.BytesIO()
                pairs[index].image().save(file, "PNG")
                for suffix, content in ((".png", file.getvalue()), (".txt", pairs[index].text.encode())):
                    info = tarfile.TarInfo(f"{index:05d}{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    icons = IconClasses(images=30)
    for name, label, image in zip(icons.ids, icons.labels, icons.images, strict=True):
        path = folder / "classes" / icons.classes[label] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image().save(path)
    return "--data", folder / "{00..01}.tar", "--zero-shot", folder / "classes"
