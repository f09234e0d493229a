"""Gathering tensors across processes, with gradients that are exact under DDP's averaging."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of processes; 1 if torch.distributed is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the index of this process; 0 if torch.distributed is not initialised."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(tensor: Tensor) -> Tensor:
    """Concatenate `tensor` of every process along dimension 0, in rank order, without gradients.

    Args:
        tensor: (rows, …); the number of rows may differ between processes, the other sizes must not.

    Returns:
        (sum of rows, …), the same on every process. With one process it is `tensor.detach()`.
    """
    if world_size() == 1:
        return tensor.detach()
    return torch.cat(_all_rows(tensor.detach()))


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Concatenate `tensor` of every process along dimension 0. Gradients reach the rows of every process.

    The backward pass sums the gradients that the processes' losses have for these rows. DDP then averages over the
    processes, so its gradient is exactly that of the global loss if the mean of the local losses is the global loss.
    That holds if each process returns the global loss, or its own share times the number of processes.
    Every process must call this function, and its backward, in the same order.

    Args:
        tensor: (rows, …); the number of rows may differ between processes, the other sizes must not.

    Returns:
        (sum of rows, …). With one process it is `tensor` itself.
    """
    if world_size() == 1:
        return tensor
    return _GatherWithGradient.apply(tensor) if tensor.requires_grad else gather(tensor)


class _GatherWithGradient(torch.autograd.Function):
    """The gathering of all rows whose backward sums the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = _all_rows(tensor)
        ctx.start = sum(len(part) for part in parts[: rank()])
        ctx.rows = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.rows]


def _all_rows(tensor: Tensor) -> list[Tensor]:
    """Return the tensor of each process. The exchange pads them to the longest, and the padding is cut off again."""
    sizes = [torch.empty(1, dtype=torch.int64, device=tensor.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(tensor)], device=tensor.device))
    rows = [int(size) for size in sizes]
    if max(rows) == 0:
        return [tensor] * len(rows)
    padded = tensor.new_zeros(max(rows), *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    as_bytes = tensor.dtype == torch.bool  # not every backend exchanges booleans
    padded = padded.to(torch.uint8) if as_bytes else padded
    received = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(received, padded)
    return [part[:count].to(tensor.dtype) for part, count in zip(received, rows, strict=True)]
