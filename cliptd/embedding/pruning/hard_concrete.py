"""Hard-concrete masks: numbers from 0 to 1 that learn to be exactly 0 (arXiv 1712.01312, used by TinyCLIP)."""

import math

import torch
from torch import Tensor, nn

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""The temperature of the concrete distribution, and the limits of its stretched range before it is clamped to 0 … 1."""
START = 10.0
"""The first value of log α, with which a mask is almost surely open."""


class HardConcrete(nn.Module):
    """Masks of any shape: z = clamp(σ((log u − log(1 − u) + log α) / β) · (ζ − γ) + γ, 0, 1), u uniform.

    Their log α are trained by the gradients of what z multiplies and of `probability_open`.

    >>> mask = HardConcrete(2, 3)
    >>> mask.certain().tolist() == [[1.0] * 3] * 2  # it starts open
    True
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full(shape, START))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Return z for a new u from a generator on the CPU. None: torch's own generator."""
        u = torch.rand(self.log_alpha.shape, generator=generator).clamp(1e-6, 1 - 1e-6).to(self.log_alpha)
        return _stretched((u.log() - (-u).log1p() + self.log_alpha) / BETA)

    def certain(self) -> Tensor:
        """Return z without noise, as in evaluation: clamp(σ(log α) (ζ − γ) + γ, 0, 1)."""
        return _stretched(self.log_alpha)

    def probability_open(self) -> Tensor:
        """Return P(z > 0) = σ(log α − β log(−γ / ζ))."""
        return torch.sigmoid(self.log_alpha - BETA * math.log(-GAMMA / ZETA))


def _stretched(logits: Tensor) -> Tensor:
    return (torch.sigmoid(logits) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
