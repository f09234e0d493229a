"""Zero-shot classification with prompt templates (CLIP, arXiv 2103.00020, section 3.1.4)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from cliptd.data.files.text_files import read_text
from cliptd.data.pairs.pair import OnBadSample
from cliptd.evaluation.embeddings import DualEncoder, embed_images, embed_texts
from cliptd.evaluation.image_folder import ImageFolder
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
    """The templates of a UTF-8 file, a line each with "{}" where the class name goes; blank lines count for nothing.

    Raises ValueError naming file and line, FileNotFoundError for no file.
    """
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a template a line") from None
    templates = {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}
    for number, template in templates.items():
        _check_template(template, f"{path}:{number}")
    if not templates:
        raise ValueError(f"{path}: is empty; expected a template a line, such as {TEMPLATES[0]!r}")
    return list(templates.values())


def zero_shot_classifier(
    model: DualEncoder, class_names: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Tensor:
    """A class's weight is the mean of its texts' unit embeddings, made unit length again (arXiv 2103.00020).

    Args:
        class_names: what goes into the templates.
        templates: texts with "{}" once.

    Returns: (classes, dim) on the model's device.
    Raises: ValueError for no class, no template or a template without its "{}".
    """
    if not class_names or not templates:
        raise ValueError(
            f"found {len(class_names)} classes and {len(templates)} templates; expected one at least"
        )
    for template in templates:
        _check_template(template, "templates")
    texts = [template.replace("{}", name) for name in class_names for template in templates]
    embeds = embed_texts(model, texts, description="class names").unflatten(0, (len(class_names), -1))
    return F.normalize(embeds.mean(dim=1), dim=-1)


def zero_shot(
    model: DualEncoder,
    dataset: ImageFolder,
    templates: Sequence[str] = TEMPLATES,
    *,
    on_bad_sample: OnBadSample = "raise",
) -> dict:
    """Classify images by the text that is nearest; of equally near classes the first one counts.

    Args:
        dataset: an `ImageFolder`, or anything with its `classes`, `class_names`, `images`, `labels` and `ids`.
        on_bad_sample: "raise" at an image that cannot be opened, or "skip": leave it out and list it.

    Returns: {"images", "top1", "top5" (of five classes or more), "mean_per_class", "per_class": {class folder: …},
        "skipped": [what is wrong with an image, …]}, in percent.
    Raises: ValueError, FileNotFoundError naming image, class or template.
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
            f'{where}: {template!r} holds "{{}}" {template.count("{}")} times; expected it once, where the class name '
            f"goes, as in {TEMPLATES[0]!r}"
        )
