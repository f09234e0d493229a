"""Paired bootstrap against exact enumeration and a known distribution."""

import itertools

import numpy as np
import pytest

from tasks.low_shot.paired_bootstrap import paired_bootstrap


def test_the_interval_is_that_of_all_resamples():
    ours, theirs = [5.0, 7.0, 4.0, 9.0], [4.0, 4.0, 5.0, 2.0]
    differences = [1.0, 3.0, -1.0, 7.0]
    means = sorted(sum(drawn) / 4 for drawn in itertools.product(differences, repeat=4))
    found = paired_bootstrap(ours, theirs)
    assert (found.mean, found.pairs) == (2.5, 4)
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.26)  # means lie 0.25 apart or more
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.26)
    narrow = paired_bootstrap(ours, theirs, confidence=0.5)
    assert found.low < narrow.low < narrow.mean < narrow.high < found.high


def test_pairing_counts():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 10, 200)  # how lucky a seed is
    ours, theirs = common + 1 + rng.normal(0, 0.5, 200), common + rng.normal(0, 0.5, 200)
    found = paired_bootstrap(ours, theirs)
    assert 0.8 < found.low < 1 < found.high < 1.2
    assert paired_bootstrap(theirs, ours).mean == pytest.approx(-found.mean)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="0 and 0 values"):
        paired_bootstrap([], [])
    with pytest.raises(ValueError, match="2 and 1 values"):
        paired_bootstrap([1, 2], [1])
    with pytest.raises(ValueError, match="confidence is 95"):
        paired_bootstrap([1], [1], confidence=95)
