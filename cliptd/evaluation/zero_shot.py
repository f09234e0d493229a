"""Zero-shot classification with prompt templates (CLIP, arXiv 2103.00020, section 3.1.4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cliptd.data.files.text_files import read_text
from cliptd.data.pairs.pair import OnBadSample
from cliptd.evaluation.embeddings import DualEncoder, embed_images, embed_texts
from cliptd.evaluation.image_folder import LabelledImages
from cliptd.evaluation.ranking import class_accuracies, class_ranks, hits

TEMPLATES = (
    "a photo of a {}.",
    "a picture that shows a {}.",
    "a close view of a {}.",
    "a {} seen from a distance.",
    "one {} among other things.",
    "a drawing of a {}.",
    "a dark, blurred photo of a {}.",
)


def read_templates(path: str | Path) -> list[str]:
    """Read prompt templates from a UTF-8 file, one per line with "{}" in the place of the class name.

    Blank lines are ignored.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: a line has no "{}" or several; the message names file and line.
    """
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected one template per line") from None
    templates = {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}
    for number, template in templates.items():
        _check_template(template, f"{path}:{number}")
    if not templates:
        raise ValueError(f"{path}: is empty; expected one template per line, such as {TEMPLATES[0]!r}")
    return list(templates.values())


def zero_shot_classifier(
    model: DualEncoder, class_names: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Tensor:
    """Return a linear classifier whose weight for a class is the mean of the embeddings of its texts, of unit length.

    Source: arXiv 2103.00020, section 3.1.4.

    Args:
        class_names: the names of the classes, which go into the templates.
        templates: texts with one "{}" each.

    Returns: (classes, dim) on the model's device.
    Raises:
        ValueError: there is no class or no template, or a template has no "{}" or several.
    """
    if not class_names or not templates:
        raise ValueError(
            f"found {len(class_names)} classes and {len(templates)} templates; expected at least one of each"
        )
    for template in templates:
        _check_template(template, "templates")
    texts = [template.replace("{}", name) for name in class_names for template in templates]
    embeds = embed_texts(model, texts, description="class names").unflatten(0, (len(class_names), -1))
    return F.normalize(embeds.mean(dim=1), dim=-1)


def zero_shot(
    model: DualEncoder,
    dataset: LabelledImages,
    templates: Sequence[str] = TEMPLATES,
    *,
    on_bad_sample: OnBadSample = "raise",
) -> dict[str, Any]:
    """Classify each image by the class whose texts are nearest. Of equally near classes the first one counts.

    Args:
        dataset: an `ImageFolder`, or another class with its attributes.
        templates: see `zero_shot_classifier`.
        on_bad_sample: "raise" at an image that cannot be opened, or "skip" it and list it.

    Returns: {"images", "top1", "top5" (with five classes or more), "mean_per_class", "per_class": {class folder: …},
        "skipped": [the reason of an image, …]}, in percent.
    Raises:
        ValueError, FileNotFoundError: the message names image, class or template.
    """
    classifier = zero_shot_classifier(model, dataset.class_names, templates)
    embedded = embed_images(model, dataset.images, dataset.ids, on_bad_sample=on_bad_sample)
    labels = torch.tensor(dataset.labels, device=classifier.device)[embedded.kept]
    ranks = class_ranks(embedded.embeds, labels, classifier)
    top5 = {"top5": hits(ranks, 5)} if len(classifier) >= 5 else {}
    return {
        "images": len(ranks),
        "top1": hits(ranks, 1),
        **top5,
        **class_accuracies(ranks, labels, dataset.classes),
        "skipped": embedded.skipped,
    }


def _check_template(template: str, where: str) -> None:
    if template.count("{}") != 1:
        raise ValueError(
            f'{where}: {template!r} holds "{{}}" {template.count("{}")} times; expected it once, in the place of the '
            f"class name, as in {TEMPLATES[0]!r}"
        )
