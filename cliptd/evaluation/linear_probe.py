"""The linear probe: logistic regression on a model's image embeddings (CLIP, arXiv 2103.00020, appendix A.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cliptd.data.pairs.pair import OnBadSample
from cliptd.data.splits import low_shot_split
from cliptd.evaluation.embeddings import DualEncoder, embed_images
from cliptd.evaluation.image_folder import ImageFolder, LabelledImages
from cliptd.evaluation.logistic_regression import LogisticRegression, choose_strength, fit
from cliptd.evaluation.ranking import class_accuracies, class_ranks, hits

VALIDATION_SHARE = 0.2
"""The share of the training images that validate if there is no `val` folder."""


class ProbeFolders(NamedTuple):
    """The three parts of a data set. `val` may be missing."""

    train: LabelledImages
    val: LabelledImages | None
    test: LabelledImages


def probe_folders(folder: str | Path) -> ProbeFolders:
    """Return FOLDER/train, FOLDER/val if there is one, and FOLDER/test, each a folder of class folders.

    Raises:
        FileNotFoundError: as for `ImageFolder`.
        ValueError: val or test has a class that train lacks.
    """
    train, test = ImageFolder(Path(folder) / "train"), ImageFolder(Path(folder) / "test")
    val = ImageFolder(Path(folder) / "val") if (Path(folder) / "val").is_dir() else None
    for part in (test,) if val is None else (val, test):
        unknown = sorted(set(part.classes) - set(train.classes))
        if unknown:
            raise ValueError(
                f"{part.folder}: has the class {unknown[0]!r} ({len(unknown)} such), which {train.folder} lacks; give "
                "it training images or remove it"
            )
    return ProbeFolders(train, val, test)


def linear_probe(
    model: DualEncoder, folders: ProbeFolders, *, on_bad_sample: OnBadSample = "raise", seed: int = 0
) -> dict[str, Any]:
    """Fit a linear classifier on frozen embeddings and test it.

    A sweep chooses λ by the accuracy on validation images. Then the classifier is fitted again on training and
    validation images together. CLIP's authors probe the features before the projection. This function probes
    `encode_images`, which every model has.

    Args:
        folders: the data set, such as `probe_folders` returns. Without `val` a fifth of the training images of each
            class validates.
        on_bad_sample: "raise" at an image that cannot be opened, or "skip" it and list it.
        seed: draws the training images that validate.

    Returns: {"training_images", "validation_images", "images" (tested), "top1", "mean_per_class", "per_class": {class
        folder: …}, "validation_top1", "lambda", "skipped": [the reason of an image, …]}, in percent. λ is the weight of
        ½‖W‖² beside the sum of the training images' cross-entropies.
    Raises:
        ValueError, FileNotFoundError: the message names image or folder.
    """
    return fit_probe(model, folders, on_bad_sample=on_bad_sample, seed=seed).found


class Probe(NamedTuple):
    """A fitted classifier of the training folder's classes.

    features, labels: (images, dim) and (images,) of the test images. found: the result of `linear_probe`.
    """

    classifier: LogisticRegression
    classes: Sequence[str]
    features: Tensor
    labels: Tensor
    found: dict[str, Any]


def fit_probe(
    model: DualEncoder, folders: ProbeFolders, *, on_bad_sample: OnBadSample = "raise", seed: int = 0
) -> Probe:
    """Fit and test as `linear_probe` does, and return the classifier too."""
    classes = folders.train.classes
    train, test = (_embed(model, part, classes, on_bad_sample) for part in (folders.train, folders.test))
    skipped = train.skipped + test.skipped
    if folders.val is None:
        train, val = _hold_out(train, folders.train.folder, seed)
    else:
        val = _embed(model, folders.val, classes, on_bad_sample)
        skipped += val.skipped
    strength, validation_top1 = choose_strength(
        train.features, train.labels, val.features, val.labels, len(classes)
    )
    features, labels = torch.cat([train.features, val.features]), torch.cat([train.labels, val.labels])
    classifier = fit(features, labels, len(classes), strength)
    ranks = class_ranks(test.features, test.labels, classifier.weight, classifier.bias)
    found = {
        "training_images": len(train.ids),
        "validation_images": len(val.ids),
        "images": len(test.ids),
        "top1": hits(ranks, 1),
        **class_accuracies(ranks, test.labels, classes),
        "validation_top1": validation_top1,
        "lambda": strength,
        "skipped": skipped,
    }
    return Probe(classifier, classes, test.features, test.labels, found)


class _Part(NamedTuple):
    """The embeddings of one part of a data set.

    features: (images, dim). labels: (images,). ids: the images' names. skipped: the reasons of images that were not
    read.
    """

    features: Tensor
    labels: Tensor
    ids: list[str]
    skipped: list[str]

    def rows(self, rows: list[int]) -> "_Part":
        """Return a part of these images."""
        return _Part(self.features[rows], self.labels[rows], [self.ids[row] for row in rows], [])


def _embed(
    model: DualEncoder, part: LabelledImages, classes: Sequence[str], on_bad_sample: OnBadSample
) -> _Part:
    """Embed a part of a data set. Its labels become positions in `classes`, the training classes."""
    embedded = embed_images(
        model, part.images, part.ids, on_bad_sample=on_bad_sample, description=part.folder.name
    )
    position = {name: place for place, name in enumerate(classes)}
    labels = [position[part.classes[part.labels[image]]] for image in embedded.kept]
    ids = [part.ids[image] for image in embedded.kept]
    return _Part(embedded.embeds, torch.tensor(labels, device=embedded.embeds.device), ids, embedded.skipped)


def _hold_out(train: _Part, folder: Path, seed: int) -> tuple[_Part, _Part]:
    """Split training images into those that are fitted and those that validate, stratified by class."""
    fitted = low_shot_split(
        train.ids, train.labels.tolist(), fraction=1 - VALIDATION_SHARE, seed=seed
    ).indices
    held_out = sorted(set(range(len(train.ids))) - set(fitted))
    if not held_out:
        raise ValueError(
            f"{folder}: holds {len(train.ids)} images, too few to validate on some; add images, or a val folder "
            "beside it"
        )
    return train.rows(fitted), train.rows(held_out)
