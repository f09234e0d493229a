"""The rank of the right answer among candidates, and the accuracies that follow, in percent."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK_PAIRS = 2**22
"""The number of scores that are held at once, for any number of images."""


def wrong_before_right(scores: Tensor, right: Tensor) -> Tensor:
    """Return how many wrong candidates rank before the best right one. A number below k is a hit at k.

    Equal scores rank in the order of the candidates, as in a stable sort. A model that embeds everything alike is then
    about as good as chance.

    Args:
        scores: (queries, candidates), finite.
        right: (queries, candidates) bool, at least one true per row.

    Returns: (queries,) int64.

    >>> scores = torch.tensor([[0.3, 0.9, 0.3, 0.3]])
    >>> [wrong_before_right(scores, torch.arange(4)[None] == place).item() for place in range(4)]
    [1, 0, 2, 3]
    """
    best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
    place = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    first = place.masked_fill(~right | (scores < best), scores.shape[1]).amin(dim=1, keepdim=True)
    return ((scores > best) | ((scores == best) & (place < first))).sum(dim=1)


def class_ranks(
    features: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    classes: Tensor | None = None,
) -> Tensor:
    """Return how many wrong rows rank before the true class's best row, by the logits `weight` · feature + `bias`.

    Blocks of images are ranked one after the other.

    Args:
        features: (images, dim).
        labels: (images,), the true classes.
        weight, bias: (rows, dim) and (rows,). Their precision is that of the logits.
        classes: (rows,), the class of each row. None: row k is class k.

    Returns: (images,) int64.
    """
    classes = (
        torch.arange(len(weight), device=weight.device) if classes is None else classes.to(weight.device)
    )
    rows = block_rows(len(weight))
    blocks = zip(features.split(rows), labels.split(rows), strict=True)
    ranks = [
        wrong_before_right(F.linear(x.to(weight), weight, bias), own[:, None] == classes) for x, own in blocks
    ]
    return torch.cat(ranks)


def block_rows(columns: int) -> int:
    """Return how many rows of scores with this many columns are held at once, at least one."""
    return max(1, BLOCK_PAIRS // columns)


def hits(ranks: Tensor, k: int) -> float:
    """Return the percent of queries with a right candidate among the first `k`, from ranks of `wrong_before_right`."""
    return 100 * (ranks < k).double().mean().item()


def class_accuracies(ranks: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Return the accuracy of each class and the mean over classes. Classes without images count in neither.

    Args:
        ranks, labels: (images,), the rank of the true class and its position in `classes`.
        classes: the names of the classes.

    Returns: {"mean_per_class", "per_class": {class: …}}, in percent.
    """
    per_class = {classes[label]: hits(ranks[labels == label], 1) for label in labels.unique().tolist()}
    return {"mean_per_class": sum(per_class.values()) / len(per_class), "per_class": per_class}
