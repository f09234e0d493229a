"""The linear probe: logistic regression on a model's image embeddings (CLIP, arXiv 2103.00020, appendix A.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cliptd.data.pairs.pair import OnBadSample
from cliptd.data.splits import low_shot_split
from cliptd.evaluation.embeddings import DualEncoder, embed_images
from cliptd.evaluation.image_folder import ImageFolder
from cliptd.evaluation.logistic_regression import LogisticRegression, choose_strength, fit
from cliptd.evaluation.ranking import class_accuracies, class_ranks, hits

VALIDATION_SHARE = 0.2
"""Of the training images, where none are given to validate on."""


class ProbeFolders(NamedTuple):
    """The three parts of a data set; `val` may be missing."""

    train: ImageFolder
    val: ImageFolder | None
    test: ImageFolder


def probe_folders(folder: str | Path) -> ProbeFolders:
    """FOLDER/train, FOLDER/val if there is one, FOLDER/test, each a folder of class folders.

    Raises FileNotFoundError as `ImageFolder`, ValueError for a class of val or test that train lacks.
    """
    train, test = ImageFolder(Path(folder) / "train"), ImageFolder(Path(folder) / "test")
    val = ImageFolder(Path(folder) / "val") if (Path(folder) / "val").is_dir() else None
    for part in (val, test):
        unknown = sorted(set(part.classes) - set(train.classes)) if part else []
        if unknown:
            raise ValueError(
                f"{part.folder}: has the class {unknown[0]!r} ({len(unknown)} such), which {train.folder} lacks; give "
                "it training images or remove it"
            )
    return ProbeFolders(train, val, test)


def linear_probe(
    model: DualEncoder, folders: ProbeFolders, *, on_bad_sample: OnBadSample = "raise", seed: int = 0
) -> dict:
    """Fit a linear classifier on frozen embeddings and test it; λ is swept on validation images.

    After the sweep it is fitted again on training and validation images together. CLIP's authors probe the features
    before the projection; this probes `encode_images`, which every model has.

    Args:
        folders: as `probe_folders` gives them. Without `val` every fifth training image validates, stratified by class.
        on_bad_sample: "raise" at an image that cannot be opened, or "skip": leave it out and list it.
        seed: draws the training images that validate.

    Returns: {"training_images", "validation_images", "images" (tested), "top1", "mean_per_class", "per_class": {class
        folder: …}, "validation_top1", "lambda", "skipped": [what is wrong with an image, …]}, in percent. λ weighs
        ½‖W‖² against the sum of the training images' cross-entropies.
    Raises: ValueError, FileNotFoundError naming image or folder.
    """
    return fit_probe(model, folders, on_bad_sample=on_bad_sample, seed=seed).found


class Probe(NamedTuple):
    """A fitted classifier of the training folder's classes.

    features, labels: (images, dim) and (images,) of the test images. found: what `linear_probe` returns.
    """

    classifier: LogisticRegression
    classes: list[str]
    features: Tensor
    labels: Tensor
    found: dict


def fit_probe(
    model: DualEncoder, folders: ProbeFolders, *, on_bad_sample: OnBadSample = "raise", seed: int = 0
) -> Probe:
    """Fit and test as `linear_probe`, and keep the classifier."""
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
    """features: (images, dim). labels: (images,). ids: of the images. skipped: what is wrong with others."""

    features: Tensor
    labels: Tensor
    ids: list[str]
    skipped: list[str]

    def rows(self, rows: list[int]) -> "_Part":
        return _Part(self.features[rows], self.labels[rows], [self.ids[row] for row in rows], [])


def _embed(
    model: DualEncoder, part: ImageFolder, classes: Sequence[str], on_bad_sample: OnBadSample
) -> _Part:
    """labels: positions in `classes`, the training classes."""
    embedded = embed_images(
        model, part.images, part.ids, on_bad_sample=on_bad_sample, description=part.folder.name
    )
    position = {name: place for place, name in enumerate(classes)}
    labels = [position[part.classes[part.labels[image]]] for image in embedded.kept]
    ids = [part.ids[image] for image in embedded.kept]
    return _Part(embedded.embeds, torch.tensor(labels, device=embedded.embeds.device), ids, embedded.skipped)


def _hold_out(train: _Part, folder: Path, seed: int) -> tuple[_Part, _Part]:
    """What is fitted and what validates."""
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
