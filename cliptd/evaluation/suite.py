"""The evaluation of a suite of data sets and shifted versions of them, in one table (like ELEVATER)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cliptd.data.pairs.pair import OnBadSample
from cliptd.evaluation.embeddings import DualEncoder, embed_images
from cliptd.evaluation.linear_probe import Probe, fit_probe
from cliptd.evaluation.ranking import class_accuracies, class_ranks, hits
from cliptd.evaluation.suite_file import Metric, SuiteEntry, checked_suite, counterparts
from cliptd.evaluation.zero_shot import TEMPLATES, zero_shot_classifier


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
