"""The interval of a difference between two methods, from paired runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
ENOUGH_SEEDS = 3
"""Pairs below which an interval over them says nothing."""


@dataclass(frozen=True)
class PairedDifference:
    """The mean of the differences, and the interval that holds `confidence` of its bootstrap resamples."""

    mean: float
    low: float
    high: float
    pairs: int


def paired_bootstrap(
    ours: Sequence[float], theirs: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Return the mean of `ours` − `theirs` with its percentile bootstrap interval over the pairs (Efron, 1979).

    A pair is two runs with the same seed and the same labelled items. With a handful of pairs the interval is rough: it
    cannot reach beyond the smallest and the largest difference.

    Raises:
        ValueError: for no pair, unequal lengths or a confidence outside (0, 1).

    >>> paired_bootstrap([3.0, 5.0, 4.0], [1.0, 3.0, 2.0])
    PairedDifference(mean=2.0, low=2.0, high=2.0, pairs=3)
    """
    if len(ours) != len(theirs) or not len(ours):
        raise ValueError(f"{len(ours)} and {len(theirs)} values; expected as many of both, at least one")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number in (0, 1), such as 0.95")
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), (RESAMPLES, len(differences)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences[drawn].mean(1), [tail, 1 - tail])
    return PairedDifference(float(differences.mean()), float(low), float(high), len(differences))
