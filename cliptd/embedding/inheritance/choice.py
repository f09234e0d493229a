"""Which layers and which channels a student keeps."""

from typing import Literal

import torch
from torch import Tensor

from cliptd.embedding.inheritance.axes import Axes

How = Literal["even", "leading", "magnitude"]


def chosen_layers(total: int, kept: int, how: How) -> list[int]:
    """`kept` of `total` layers: evenly spaced with the first and the last, or with "leading" the first ones.

    One of several is the first. Halves are rounded up.

    >>> chosen_layers(12, 9, "even")
    [0, 1, 3, 4, 6, 7, 8, 10, 11]
    >>> chosen_layers(12, 9, "leading")
    [0, 1, 2, 3, 4, 5, 6, 7, 8]
    """
    if how == "leading" or kept < 2:
        return list(range(kept))
    steps = kept - 1
    return [(2 * i * (total - 1) + steps) // (2 * steps) for i in range(kept)]


def chosen_entries(kept: int, importance: Tensor | None = None) -> Tensor:
    """Indices of the `kept` entries of an axis, in ascending order: the most important ones, else the leading ones.

    >>> chosen_entries(2, torch.tensor([3.0, 1.0, 2.0])).tolist()
    [0, 2]
    """
    if importance is None:
        return torch.arange(kept)
    return importance.argsort(descending=True, stable=True)[:kept].sort().values


@torch.no_grad()
def importance_of_entries(tensors: dict[str, Tensor], axes: dict[str, Axes]) -> dict[str, Tensor]:
    """For each axis to choose from, by name, the importance of its entries: Σ |w| over all matrices that have it.

    A channel of the residual stream counts in every matrix that reads or writes it, a head in its rows of q, k and v
    and its columns of the output, a unit of an MLP in its two matrices. Convolutions and embeddings are matrices;
    biases and norms are not.

    Args:
        tensors: the teacher's, each with its axes in `axes`.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.squeeze().dim() < 2:
            continue
        viewed = tensor.detach().float().abs().reshape([axis.size for axis in axes[name]])
        for i, axis in enumerate(axes[name]):
            if axis.kind == "chosen":
                others = [k for k in range(viewed.dim()) if k != i]
                score = viewed.sum(others, dtype=torch.float64).cpu()
                found[axis.name] = found.get(axis.name, 0) + score
    return found
