"""CLIP's contrastive loss (arXiv 2103.00020)."""

from torch import Tensor

from cliptd.embedding.losses.pairwise import Scale, check_widths, contrast, normalised


def contrastive(*, image: Tensor, text: Tensor, scale: Scale) -> Tensor:
    """½ [CE of each image's own text among all texts + CE of each text's own image among all images].

    The value of open_clip's ClipLoss, without a matrix of all pairs. Over the batch of all processes; the mean over
    processes is the whole batch's loss.

    Args:
        image, text: (pairs, dim), normalised or not.
        scale: multiplies the cosines.

    Returns: a scalar.
    Raises: ValueError for other shapes, naming them.
    """
    image, text = normalised(image=image, text=text)
    check_widths("the", image, text)
    return (contrast(image, text, scale) + contrast(text, image, scale)) / 2
