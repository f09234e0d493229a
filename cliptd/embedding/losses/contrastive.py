"""CLIP's contrastive loss (arXiv 2103.00020)."""

from torch import Tensor

from cliptd.embedding.losses.pairwise import Scale, check_widths, contrast, normalised


def contrastive(*, image: Tensor, text: Tensor, scale: Scale) -> Tensor:
    """Return ½ [CE of each image's own text among all texts + CE of each text's own image among all images].

    The value is that of open_clip's ClipLoss, without a matrix of all pairs. The loss compares every pair in the batch
    of all processes; its mean over processes is the loss of the whole batch.

    Args:
        image, text: (pairs, dim), normalised or not.
        scale: the logit scale, which multiplies the cosines.

    Returns: a scalar.
    Raises: ValueError for other shapes, naming them.
    """
    image, text = normalised(image=image, text=text)
    check_widths("the", image, text)
    return (contrast(image, text, scale) + contrast(text, image, scale)) / 2
