"""The learned masks of one transformer tower, their sparsity, and its price (TinyCLIP, arXiv 2309.12314)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cliptd.embedding.pruning.hard_concrete import HardConcrete

MaskValues = tuple[Tensor, Tensor, Tensor]
"""The values of a tower's masks: hidden (width,), heads (layers, heads) and units (layers, units)."""


@dataclass(frozen=True)
class TowerShape:
    """The sizes of a transformer tower.

    layers: the number of blocks. width: the channels of the residual stream. heads: the heads of each block. units: the
    units of each block's MLP.
    """

    layers: int
    width: int
    heads: int
    units: int

    @property
    def head_width(self) -> int:
        """Return the number of channels of a head."""
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Return the parameters of the matrices that masks prune: q, k, v, the output and the MLP's two."""
        return self.layers * self.width * (4 * self.width + 2 * self.units)


class TowerMasks(nn.Module):
    """The masks of one tower: of channels, which all layers share, and of each layer's own heads and units.

    Their price is λ₁ (p − q) + λ₂ (p − q)², where p is the expected sparsity and q the one to reach. The λ climb while
    everything else descends.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.hidden = HardConcrete(shape.width)
        self.heads = HardConcrete(shape.layers, shape.heads)
        self.units = HardConcrete(shape.layers, shape.units)
        self.lambdas = nn.Parameter(torch.zeros(2))

    def expected_sparsity(self) -> Tensor:
        """Return 1 − E[remaining parameters] / parameters of the tower's matrices, a scalar with gradient."""
        hidden, heads, units = (mask.probability_open() for mask in (self.hidden, self.heads, self.units))
        left = hidden.sum() * (4 * self.shape.head_width * heads.sum() + 2 * units.sum())
        return 1 - left / self.shape.parameters

    @torch.no_grad()
    def real_sparsity(self) -> float:
        """Return 1 − remaining parameters / parameters, after pruning the masks that are closed without noise."""
        hidden, heads, units = ((mask.certain() > 0).sum() for mask in (self.hidden, self.heads, self.units))
        return 1 - (hidden * (4 * self.shape.head_width * heads + 2 * units)).item() / self.shape.parameters

    def price(self, asked: float | Tensor) -> Tensor:
        """Return λ₁ (p − q) + λ₂ (p − q)² for the sparsity q = `asked`, from 0 to 1."""
        lambdas: Tensor = _Ascent.apply(self.lambdas)
        excess = self.expected_sparsity() - asked
        return lambdas[0] * excess + lambdas[1] * excess.square()

    def forward(self, generator: torch.Generator) -> MaskValues:
        """Return the values of the masks: a sample in training, the values without noise in evaluation."""

        def values(mask: HardConcrete) -> Tensor:
            return mask.sample(generator) if self.training else mask.certain()

        return values(self.hidden), values(self.heads), values(self.units)


class _Ascent(torch.autograd.Function):
    """The identity with a reversed gradient, so that a descending optimizer makes the numbers climb."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:
        return numbers.view_as(numbers)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient
