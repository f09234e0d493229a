"""SigLIP's sigmoid loss (arXiv 2303.15343)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptd.embedding.losses.blockwise import sum_over_pairs
from cliptd.embedding.losses.pairwise import Scale, check_widths, normalised, rows_before
from cliptd.utils.distributed import gather_with_gradient, world_size


def sigmoid(*, image: Tensor, text: Tensor, scale: Scale, bias: Scale) -> Tensor:
    """Return −1/N Σ_ij log σ(z_ij (scale · Î_i·T̂_j + bias)), z = 1 for a pair of the batch and −1 for all others.

    The value is that of open_clip's SigLipLoss, without a matrix of all pairs. The loss compares every pair in the
    batch of all processes; its mean over processes is the loss of the whole batch.

    Args:
        image, text: (pairs, dim), normalised or not.
        scale, bias: the logit scale, which multiplies the cosines, and the logit bias.

    Returns: a scalar.
    Raises: ValueError for other shapes, naming them.
    """
    image, text = normalised(image=image, text=text)
    check_widths("the", image, text)
    everyone = gather_with_gradient(text)
    first = rows_before(text)

    def block(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        here = torch.arange(rows.stop - rows.start, device=logits.device)
        sign = torch.full_like(logits, -1.0)
        sign[here, here + rows.start + first] = 1.0
        signed = sign * logits
        return -F.logsigmoid(signed).sum(), -sign * torch.sigmoid(-signed)

    total = sum_over_pairs(image, everyone, block, scale=scale, bias=bias)
    return total * world_size() / len(everyone)
