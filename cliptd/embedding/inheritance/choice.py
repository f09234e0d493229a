"""The choice of the layers and channels that a student keeps."""

import torch
from torch import Tensor

from cliptd.embedding.inheritance.axes import Axes
from cliptd.embedding.options import How


def chosen_layers(total: int, kept: int, how: How) -> list[int]:
    """Return the indices of `kept` of `total` layers.

    They are evenly spaced and include the first and the last one. With "leading" they are the first ones. A single
    layer is the first one. Halves are rounded up.

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
    """Return the indices of the `kept` most important entries of an axis in ascending order.

    Without importances return the leading ones.

    >>> chosen_entries(2, torch.tensor([3.0, 1.0, 2.0])).tolist()
    [0, 2]
    """
    if importance is None:
        return torch.arange(kept)
    return importance.argsort(descending=True, stable=True)[:kept].sort().values


@torch.no_grad()
def importance_of_entries(tensors: dict[str, Tensor], axes: dict[str, Axes]) -> dict[str, Tensor]:
    """Return the importance of each entry of each axis to choose from: Σ |w| over all matrices with that axis.

    - A channel of the residual stream counts in every matrix that reads or writes it.
    - A head counts in its rows of q, k and v and in its columns of the output.
    - A unit of an MLP counts in its two matrices.

    Convolutions and embeddings count as matrices. Biases and norms do not.

    Args:
        tensors: the teacher's tensors by name.
        axes: the axes of these tensors, by the same names.

    Returns: (entries,) float64 by the name of the axis.
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
