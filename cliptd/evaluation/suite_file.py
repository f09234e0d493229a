"""The entries of a suite of classification data sets, in a YAML file.

A suite is a YAML list. Paths are relative to its file:

    - {name: imagenet, images: imagenet/val, linear_probe: imagenet, templates: imagenet.txt}
    - {name: imagenet-r, images: imagenet-r, shifted_from: imagenet}
    - {name: objectnet, images: objectnet-1.0, shifted_from: imagenet}
    - {name: pets, images: pets/test, linear_probe: pets, metric: mean_per_class}

`images` is a folder of class folders, or ObjectNet's folder with its mappings, to classify zero-shot. `linear_probe` is
a folder with train/, test/ and perhaps val/. A shifted set has some or all classes of its base set. It is classified by
the base set's class names, probe and, unless it has its own, templates. Its drop is the difference to the accuracy on
the base set's images of the same classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from cliptd.data.files.text_files import read_text
from cliptd.evaluation.image_folder import LabelledImages
from cliptd.evaluation.linear_probe import ProbeFolders, probe_folders
from cliptd.evaluation.objectnet import labelled_images
from cliptd.evaluation.zero_shot import read_templates

Metric = Literal["top1", "mean_per_class"]


@dataclass(frozen=True)
class SuiteEntry:
    """One data set of a suite.

    images: classified zero-shot. linear_probe: a probe is fitted and tested on it. shifted_from: the name of the base
    set, whose classes it has. templates: prompt templates. None: those of the base set, or general ones. metric: the
    accuracy that counts.
    """

    name: str
    images: LabelledImages
    linear_probe: ProbeFolders | None = None
    shifted_from: str | None = None
    templates: Sequence[str] | None = None
    metric: Metric = "top1"


def read_suite(path: str | Path) -> list[SuiteEntry]:
    """Read the entries of a YAML file and list their folders.

    Raises:
        ValueError, FileNotFoundError: the message names file and entry.
    """
    path = Path(path)
    try:
        items = yaml.safe_load(read_text(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a YAML list of data sets") from None
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path}: is no YAML ({' '.join(str(error).split())}); expected a list of data sets"
        ) from None
    if not isinstance(items, list) or not items:
        raise ValueError(
            f"{path}: found {type(items).__name__}, expected a list of data sets, {{name: …, images: …}} each"
        )
    return checked_suite(
        [_entry(path, number, item) for number, item in enumerate(items, start=1)], str(path)
    )


def checked_suite(entries: list[SuiteEntry], where: str = "the suite") -> list[SuiteEntry]:
    """Return the entries, if names are unique and every shifted set's classes are classes of its base set.

    Raises:
        ValueError: they are not.
    """
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: the name {name!r} occurs twice; rename one of them")
    by_name = {entry.name: entry for entry in entries}
    for entry in entries:
        if entry.shifted_from is None:
            continue
        base = by_name.get(entry.shifted_from)
        if entry.linear_probe is not None:
            raise ValueError(
                f"{where}: {entry.name} is tested by the probe of {entry.shifted_from}; remove its linear_probe"
            )
        if base is None or base.shifted_from is not None:
            plain = ", ".join(other.name for other in entries if other.shifted_from is None)
            raise ValueError(
                f"{where}: {entry.name} is shifted_from {entry.shifted_from!r}; expected one of the "
                f"plain sets ({plain})"
            )
        probed = set() if base.linear_probe is None else set(base.linear_probe.train.classes)
        for of, known in ((base.name, set(base.images.classes)), (f"{base.name}'s train/", probed)):
            unknown = sorted({name for own in counterparts(entry.images) for name in own} - known)
            if known and unknown:
                raise ValueError(
                    f"{where}: {entry.name} has the class {unknown[0]!r} ({len(unknown)} such), which {of} lacks; "
                    "folders of a class need one name in both"
                )
    return entries


def counterparts(images: LabelledImages) -> list[list[str]]:
    """Return for each class the equal classes of the base set, one or several."""
    return getattr(images, "counterparts", [[name] for name in images.classes])


def _entry(path: Path, number: int, item: Any) -> SuiteEntry:
    """Return the entry that an item of a suite's YAML file describes. Raises as `read_suite`."""
    where = f"{path}, data set {number}"
    known = [field.name for field in fields(SuiteEntry)]
    if not isinstance(item, dict) or not {"name", "images"} <= set(item) or set(item) - set(known):
        raise ValueError(f"{where}: found {item!r}, expected name, images and perhaps {', '.join(known[2:])}")
    metric = item.get("metric", "top1")
    if metric not in get_args(Metric):
        raise ValueError(f"{where}: metric is {metric!r}, expected one of {', '.join(get_args(Metric))}")
    folder = path.parent
    probe, templates = item.get("linear_probe"), item.get("templates")
    try:
        return SuiteEntry(
            name=str(item["name"]),
            images=labelled_images(folder / item["images"]),
            linear_probe=probe_folders(folder / probe) if probe else None,
            shifted_from=item.get("shifted_from"),
            templates=read_templates(folder / templates) if templates else None,
            metric=metric,
        )
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
