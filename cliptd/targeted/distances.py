"""The objective's distance between a projected student state and its teacher embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptd.targeted.config import Distance


def embedding_distance(
    states: Tensor,
    targets: Tensor,
    distance: Distance = "cosine",
    *,
    normalise: bool = True,
    temperature: float = 0.07,
    rivals: Tensor | None = None,
) -> Tensor:
    """Return the distance of each row to its target, in float32.

    "cosine": 1 − cos. "mse": |x − y|², summed over the width (PyTorch's mean times embed_dim).
    "l1": Σ|x − y| / √embed_dim. "infonce": −log softmax of cos / temperature at the own target among the rivals.
    The sizes of "mse" and "l1" do not depend on the width.

    Args:
        states: (rows, embed_dim) outputs of a head.
        targets: (rows, embed_dim) teacher embeddings; normalised here.
        distance: as above.
        normalise: "mse" and "l1" compare unit vectors. If false, they compare the states as they are.
        temperature: divides the cosines of "infonce".
        rivals: (others, embed_dim) teacher embeddings, which may hold the rows' own. None: the targets.

    Returns:
        (rows,) distances.

    >>> import torch
    >>> embedding_distance(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.6, 0.8]]))
    tensor([0.4000])
    """
    states, targets = states.float(), F.normalize(targets.float(), dim=-1)
    if normalise or distance in ("cosine", "infonce"):
        states = F.normalize(states, dim=-1)
    if distance == "cosine":
        return 1 - (states * targets).sum(dim=-1)
    if distance == "mse":
        return (states - targets).square().sum(dim=-1)
    if distance == "l1":
        return (states - targets).abs().sum(dim=-1) / states.shape[-1] ** 0.5
    rivals = targets if rivals is None else F.normalize(rivals.float(), dim=-1)
    return negative_log_softmax(states, targets, rivals, 1 / temperature)


def negative_log_softmax(anchors: Tensor, own: Tensor, rivals: Tensor, scale: float) -> Tensor:
    """Return −log softmax at each anchor's own target, against the rivals that are other targets.

    −log p_i = log(1 + Σ_j exp(scale · (a_i·r_j − a_i·o_i))) over the rivals j that differ from o_i. A rival
    equal to the own target does not count: it is the row itself, or a second copy of the same word.

    Args:
        anchors: (rows, embed_dim).
        own: (rows, embed_dim), unit norm.
        rivals: (others, embed_dim), unit norm; may hold the rows of `own` themselves.
        scale: multiplies the inner products.

    Returns:
        (rows,) at least 0.
    """
    margin = scale * (anchors @ rivals.T - (anchors * own).sum(dim=1, keepdim=True))
    same = own @ rivals.T > 1 - 1e-5
    margin = torch.cat([torch.zeros_like(margin[:, :1]), margin.masked_fill(same, -torch.inf)], dim=1)
    return torch.logsumexp(margin, dim=1)
