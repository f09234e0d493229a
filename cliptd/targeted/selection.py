"""Select the words of each instance to distil: the "adaptively selected tokens" of arXiv 2201.05729."""

from typing import get_args

import torch
from torch import Tensor

from cliptd.targeted.config import Selection

_TOLERANCE = 1e-6  # float32 scores that sum to 0.8 within rounding hold a mass of 0.8


def select_tokens(
    scores: Tensor,
    mask: Tensor,
    *,
    method: Selection = "mass",
    mass: float = 0.8,
    top_k: int = 5,
    count: int | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the words to distil: at least one if the mask has any, and none outside the mask.

    "mass": the smallest set that holds `mass` of the scores' sum, so the number adapts to the instance.
    "top_k": the highest scores. "sample": drawn without replacement in proportion to the scores (Gumbel top-k).
    "random": drawn uniformly. "all": the whole mask. Of equal scores the lower index goes first.

    Args:
        scores: (..., words), at least 0 under the mask for "mass" and "sample"; need not sum to 1.
        mask: (..., words) bool, the words that may be kept.
        method: as above.
        mass: in (0, 1].
        top_k: number of words that "top_k" chooses.
        count: number of words that "sample" and "random" draw, an integer or a tensor (...). None: as many as "mass"
            keeps.
        generator: of the draws of "sample" and "random".

    Returns:
        (..., words) bool.

    Raises:
        ValueError: the method is unknown, the shapes differ, or scores under the mask are negative, NaN or infinite.

    >>> import torch
    >>> scores = torch.tensor([0.1, 0.5, 0.1, 0.3])
    >>> select_tokens(scores, torch.ones(4, dtype=torch.bool), mass=0.8)
    tensor([False,  True, False,  True])
    >>> select_tokens(scores, scores < 0.4, method="top_k", top_k=2)
    tensor([ True, False, False,  True])
    """
    if method not in get_args(Selection):
        raise ValueError(f"method is {method!r}; expected one of {', '.join(map(repr, get_args(Selection)))}")
    if mask.shape != scores.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)} and type {mask.dtype}; expected torch.bool of the scores' "
            f"shape {tuple(scores.shape)}"
        )
    if method == "all":
        return mask.clone()
    scores = torch.where(mask, scores.double(), 0.0)
    if not torch.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity under the mask; expected finite numbers")
    needs_mass = method == "mass" or (method in ("sample", "random") and count is None)
    if (needs_mass or method == "sample") and (scores < 0).any():
        raise ValueError(
            f'scores hold {scores.min().item():.4g} under the mask; method "{method}" takes scores of at '
            "least 0, such as probabilities (see combine_relevance)"
        )
    if method == "top_k":
        count = top_k
    elif count is None or method == "mass":
        count = _mass_count(scores, mask, mass)
    if method == "random":
        scores = torch.rand(scores.shape, generator=generator, dtype=torch.float64).to(scores.device)
    elif method == "sample":
        noise = torch.rand(scores.shape, generator=generator, dtype=torch.float64).clamp(min=1e-300)
        scores = scores.log() - (-noise.log()).log().to(scores.device)
    return _highest(scores, mask, count)


def _mass_count(scores: Tensor, mask: Tensor, mass: float) -> Tensor:
    """Return (...) how many of the highest scores are needed to hold the mass."""
    total = scores.sum(dim=-1, keepdim=True)
    # Words that all score 0 are equally likely.
    scores = torch.where(total > 0, scores, mask.double())
    share = scores / scores.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    ordered = share.sort(dim=-1, descending=True).values
    held_before = ordered.cumsum(dim=-1) - ordered
    return ((held_before < mass - _TOLERANCE) & (ordered > 0)).sum(dim=-1)


def _highest(scores: Tensor, mask: Tensor, count: int | Tensor) -> Tensor:
    """Mark the `count` highest scores under the mask, at least one. Of equals, the lower index goes first."""
    ordered = scores.masked_fill(~mask, -torch.inf)
    # Words under the mask go before all others, even at a score of -inf.
    order = torch.argsort(ordered, dim=-1, descending=True, stable=True)
    inside = mask.gather(-1, order)
    rank = torch.where(inside, inside.cumsum(dim=-1) - 1, scores.shape[-1])
    count = torch.as_tensor(count, device=scores.device).clamp(min=1)[..., None]
    return torch.zeros_like(mask).scatter(-1, order, inside & (rank < count))
