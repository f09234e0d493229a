"""A suite of classification data sets and shifted versions of them, evaluated in one table (like ELEVATER).

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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from torch import Tensor

from cliptd.data.files.text_files import read_text
from cliptd.data.pairs.pair import OnBadSample
from cliptd.evaluation.embeddings import DualEncoder, embed_images
from cliptd.evaluation.image_folder import LabelledImages
from cliptd.evaluation.linear_probe import Probe, ProbeFolders, fit_probe, probe_folders
from cliptd.evaluation.objectnet import labelled_images
from cliptd.evaluation.ranking import class_accuracies, class_ranks, hits
from cliptd.evaluation.zero_shot import TEMPLATES, read_templates, zero_shot_classifier

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


@dataclass(frozen=True)
class _Known:
    """The facts of a base set that its shifted versions need."""

    classes: Sequence[str]
    class_names: Sequence[str]
    features: Tensor
    labels: Tensor
    classifier: Tensor
    probe: Probe | None


def evaluate_suite(
    model: DualEncoder,
    entries: Sequence[SuiteEntry],
    *,
    templates: Sequence[str] = TEMPLATES,
    on_bad_sample: OnBadSample = "raise",
    after_each: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
) -> list[dict[str, Any]]:
    """Evaluate a model on every data set of a suite and return one row for each, base sets first.

    Args:
        templates: the prompt templates of base sets without their own.
        on_bad_sample: "raise" at an image that cannot be opened, or "skip" it and list it.
        after_each: called with the rows so far after each data set.

    Returns: [{"name", "shifted_from", "metric", "images", "zero_shot", "zero_shot_drop", "linear_probe",
        "linear_probe_drop", "skipped"}, …], in percent and percentage points of each set's metric. A value that does
        not exist is None.
    Raises:
        ValueError, FileNotFoundError: the message names image, class or entry.
    """
    entries = checked_suite(list(entries))
    known: dict[str, _Known] = {}
    rows: list[dict[str, Any]] = []
    for entry in sorted(entries, key=lambda entry: entry.shifted_from is not None):
        images = entry.images
        embedded = embed_images(
            model, images.images, images.ids, on_bad_sample=on_bad_sample, description=entry.name
        )
        features = embedded.embeds
        labels = torch.tensor(images.labels, device=features.device)[embedded.kept]
        row: dict[str, Any] = {
            "name": entry.name, "shifted_from": entry.shifted_from, "metric": entry.metric, "images": len(labels),
            "zero_shot": None, "zero_shot_drop": None, "linear_probe": None, "linear_probe_drop": None,
            "skipped": embedded.skipped,
        }  # fmt: skip
        if entry.shifted_from is None:
            classifier = zero_shot_classifier(model, images.class_names, entry.templates or templates)
            row["zero_shot"] = _score(entry.metric, features, labels, classifier)
            probe = None
            if entry.linear_probe is not None:
                probe = fit_probe(model, entry.linear_probe, on_bad_sample=on_bad_sample)
                row["linear_probe"] = probe.found[entry.metric]
                row["skipped"] = row["skipped"] + probe.found["skipped"]
            known[entry.name] = _Known(
                images.classes, images.class_names, features, labels, classifier, probe
            )
        else:
            row |= _shifted_scores(model, entry, features, labels, known[entry.shifted_from])
        rows.append(row)
        after_each(rows)
    return rows


def averages(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the means over the base sets and over the shifted sets of each base set.

    A group of one set has no row.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        of = row["shifted_from"]
        groups.setdefault("mean" if of is None else f"mean of shifted {of}", []).append(row)
    found = []
    for name, group in groups.items():
        if len(group) > 1:
            columns = ("zero_shot", "zero_shot_drop", "linear_probe", "linear_probe_drop")
            given = {column: [row[column] for row in group if row[column] is not None] for column in columns}
            found.append(
                {"name": name, **{key: sum(all_) / len(all_) for key, all_ in given.items() if all_}}
            )
    return found


def _shifted_scores(
    model: DualEncoder, entry: SuiteEntry, features: Tensor, labels: Tensor, base: _Known
) -> dict[str, float]:
    """Return a shifted set's accuracies by the base set's classifiers, and their drops."""
    own = counterparts(entry.images)
    names = [name for several in own for name in several]
    of_class = torch.tensor([k for k, several in enumerate(own) for _ in several], device=labels.device)

    def scores(
        what: str,
        known: _Known | Probe,
        weight: Tensor,
        bias: Tensor | None = None,
        here: Tensor | None = None,
    ) -> dict[str, float]:
        places = [known.classes.index(name) for name in names]
        rows, bias = weight[places], None if bias is None else bias[places]
        score = _score(entry.metric, features, labels, rows if here is None else here, bias, of_class)
        shifted = torch.full((len(weight),), -1, device=labels.device)
        shifted[places] = of_class
        label_there = shifted[known.labels]
        both = label_there >= 0
        if not both.any():
            raise ValueError(
                f"{entry.name}: its base set {entry.shifted_from} has no image of its classes; add images of one"
            )
        on_base = _score(entry.metric, known.features[both], label_there[both], rows, bias, of_class)
        return {what: score, f"{what}_drop": on_base - score}

    here = None
    if entry.templates is not None:
        called = [base.class_names[base.classes.index(name)] for name in names]
        here = zero_shot_classifier(model, called, entry.templates)
    found = scores("zero_shot", base, base.classifier, here=here)
    if base.probe is not None:
        found |= scores("linear_probe", base.probe, base.probe.classifier.weight, base.probe.classifier.bias)
    return found


def _score(
    metric: Metric,
    features: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    classes: Tensor | None = None,
) -> float:
    """Return the accuracy in percent by a metric; the other arguments are those of `class_ranks`."""
    ranks = class_ranks(features, labels, weight, bias, classes=classes)
    if metric == "top1":
        return hits(ranks, 1)
    return class_accuracies(ranks, labels, [str(k) for k in range(len(weight))])["mean_per_class"]
