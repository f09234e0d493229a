"""Sums over all pairs of a batch, one block of rows at a time, so no matrix of all pairs is ever held.

The forward pass computes the gradients too, because it has each block's similarities at hand. The backward pass only
scales them. Both need memory for the pairs of one block and for the embeddings.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_PAIRS = 2**22
"""The pairs of one block; a matrix of them takes 16 MiB in float32."""

BlockLoss = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""(logits of a block (rows, keys), slice of its rows) → (summed loss, its gradient by the logits (rows, keys))."""


def sum_over_pairs(
    queries: Tensor,
    keys: Tensor,
    block_loss: BlockLoss,
    *,
    scale: Tensor | float,
    bias: Tensor | float = 0.0,
    rows_per_block: int | None = None,
) -> Tensor:
    """Return Σ over blocks of rows of block_loss(scale · queries keysᵀ + bias), a scalar, differentiable once.

    Half precision is computed in float32, also under autocast.

    Args:
        queries: (rows, dim).
        keys: (keys, dim).
        block_loss: see `BlockLoss`.
        scale, bias: numbers or scalar tensors.
        rows_per_block: None: as many as `BLOCK_PAIRS` allows. The result does not depend on it.
    """
    dtype = torch.promote_types(torch.float32, torch.promote_types(queries.dtype, keys.dtype))
    scale, bias = (torch.as_tensor(x, dtype=dtype, device=queries.device) for x in (scale, bias))
    rows_per_block = rows_per_block or max(1, BLOCK_PAIRS // max(1, len(keys)))
    with torch.autocast(queries.device.type, enabled=False):
        return _SumOverPairs.apply(
            queries.to(dtype),
            keys.to(dtype),
            scale,
            bias,
            block_loss,
            rows_per_block,
            torch.is_grad_enabled(),
        )


class _SumOverPairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        scale: Tensor,
        bias: Tensor,
        block_loss: BlockLoss,
        rows_per_block: int,
        training: bool,
    ) -> Tensor:
        wanted = [needed and training for needed in ctx.needs_input_grad[:4]]
        inputs = (queries, keys, scale, bias)
        of_queries, of_keys, of_scale, of_bias = (
            torch.zeros_like(x) if want else None for x, want in zip(inputs, wanted, strict=True)
        )
        total = queries.new_zeros(())
        for start in range(0, len(queries), rows_per_block):
            rows = slice(start, min(start + rows_per_block, len(queries)))
            cosine = queries[rows] @ keys.T
            loss, of_logits = block_loss(scale * cosine + bias, rows)
            total += loss
            if of_queries is not None:
                of_queries[rows] = scale * (of_logits @ keys)
            if of_keys is not None:
                of_keys += scale * (of_logits.T @ queries[rows])
            if of_scale is not None:
                of_scale += (of_logits * cosine).sum()
            if of_bias is not None:
                of_bias += of_logits.sum()
        ctx.save_for_backward(of_queries, of_keys, of_scale, of_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (
            *(None if found is None else gradient * found for found in ctx.saved_tensors),
            None,
            None,
            None,
        )
