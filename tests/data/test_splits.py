"""Splits: nested, stratified, grouped, disjoint, and the same everywhere."""

import hashlib
import random
from collections import Counter
from itertools import pairwise

import pytest

from cliptd.data import holdout_split, low_shot_split

SIZES = {"yes/no": 380, "number": 121, "other": 493, "rare": 6}


@pytest.fixture(scope="module")
def items():
    strata = [name for name, size in SIZES.items() for _ in range(size)]
    random.Random(0).shuffle(strata)
    return [f"question-{i}" for i in range(1000)], strata


@pytest.fixture(scope="module")
def images():
    generator = random.Random(1)
    groups = [f"image-{image}" for image in range(400) for _ in range(generator.randint(1, 4))]
    return [f"item-{i}" for i in range(len(groups))], [generator.randrange(4) for _ in groups], groups


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_prefix_is_stratified_within_one_item(items, seed):
    ids, strata = items
    order = low_shot_split(ids, strata, fraction=1.0, seed=seed).indices
    assert sorted(order) == list(range(1000))
    counts = Counter()
    for length, index in enumerate(order, start=1):
        counts[strata[index]] += 1
        assert all(abs(counts[name] - length * size / 1000) < 1 for name, size in SIZES.items()), length


@pytest.mark.parametrize("sizes", [[1] * 30, [97, 1, 1, 1], [50, 50], [1], [40, 30, 20, 7, 2, 1], [333] * 3])
def test_stratified_for_awkward_class_sizes(sizes):
    strata = [name for name, size in enumerate(sizes) for _ in range(size)]
    order = low_shot_split([str(i) for i in range(len(strata))], strata, fraction=1).indices
    counts = Counter()
    for length, index in enumerate(order, start=1):
        counts[strata[index]] += 1
        assert all(abs(counts[k] - length * size / len(strata)) < 1 for k, size in enumerate(sizes))


def test_nested_by_fraction_and_by_class(items):
    ids, strata = items
    order = low_shot_split(ids, strata, fraction=1.0).indices
    for fraction, count in [(0.01, 10), (0.05, 50), (0.1, 100), (0.0001, 1)]:
        assert low_shot_split(ids, strata, fraction=fraction).indices == order[:count]
    few, more = (low_shot_split(ids, strata, per_class=k).indices for k in (2, 6))
    assert more[:8] == few
    assert Counter(strata[i] for i in more) == dict.fromkeys(SIZES, 6)


def test_the_file_order_does_not_matter(items):
    ids, strata = items
    shuffled = random.Random(3).sample(range(1000), 1000)
    there = low_shot_split([ids[i] for i in shuffled], [strata[i] for i in shuffled], fraction=0.1)
    here = low_shot_split(ids, strata, fraction=0.1)
    assert [ids[shuffled[i]] for i in there.indices] == [ids[i] for i in here.indices]
    assert there.hash == here.hash
    assert low_shot_split(ids, strata, fraction=0.1, seed=1).hash != here.hash


def test_the_same_on_every_machine():
    # The rule by hand: sha256 of "seed\nid" orders the items, one class needs no interleaving.
    ids = [f"val-{i}" for i in range(12)]
    split = low_shot_split(ids, ["one"] * 12, fraction=0.5, seed=7)
    by_hand = sorted(range(12), key=lambda i: hashlib.sha256(f"7\nval-{i}".encode()).hexdigest())[:6]
    assert split.indices == by_hand
    digest = hashlib.sha256("\n".join(sorted(ids[i] for i in by_hand)).encode()).hexdigest()
    assert split.hash == f"sha256:{digest[:16]}"
    labels = [i % 3 for i in range(12)]
    assert low_shot_split(ids, labels, fraction=0.5, seed=7).indices == [2, 0, 4, 8, 6, 7]


def test_groups_are_taken_whole_nested_and_nearly_stratified(images):
    ids, strata, groups = images
    chosen = [low_shot_split(ids, strata, fraction=f, groups=groups).indices for f in (0.05, 0.1, 0.5, 1.0)]
    assert all(larger[: len(smaller)] == smaller for smaller, larger in pairwise(chosen))
    for fraction, indices in zip((0.05, 0.1, 0.5, 1.0), chosen, strict=True):
        taken = {groups[i] for i in indices}
        assert sorted(indices) == [i for i in range(len(ids)) if groups[i] in taken]
        target = round(fraction * len(ids))
        assert target <= len(indices) <= target + 3
        share = {k: strata.count(k) / len(ids) * len(indices) for k in range(4)}
        assert all(abs(Counter(strata[i] for i in indices)[k] - share[k]) <= 3 for k in range(4))


def test_groups_per_class_are_nested(images):
    ids, strata, groups = images
    previous: set[int] = set()
    for per_class in (1, 3, 10, 40):
        indices = low_shot_split(ids, strata, per_class=per_class, groups=groups).indices
        assert min(Counter(strata[i] for i in indices).values()) >= per_class
        assert previous <= set(indices)
        previous = set(indices)


@pytest.mark.parametrize("amount", [{"count": 100}, {"fraction": 0.1}])
def test_holdout_shares_no_image(images, amount):
    ids, _, groups = images
    training, held = holdout_split(ids, groups, **amount)
    assert sorted(training.indices + held.indices) == list(range(len(ids)))
    assert {groups[i] for i in training.indices}.isdisjoint(groups[i] for i in held.indices)
    target = amount.get("count", round(0.1 * len(ids)))
    assert target <= len(held) <= target + 3
    larger = holdout_split(ids, groups, count=200)[1]
    assert larger.indices[: len(held)] == held.indices
    assert training.hash != held.hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give one of fraction and per_class; got fraction=None, per_class=None"),
        ({"fraction": 0.1, "per_class": 2}, "give one of fraction and per_class"),
        ({"fraction": 0.0}, r"fraction is 0\.0, expected a number in \(0, 1\]"),
        ({"fraction": 1.5}, r"fraction is 1\.5, expected"),
        ({"per_class": 2}, "per_class is 2, expected 1 to 1: class 'b' has 1 items"),
        ({"per_class": 0}, "per_class is 0, expected 1 to 1"),
        ({"fraction": 0.5, "ids": ["x", "y", "x"]}, "the id 'x' occurs 2 times; ids must be unique"),
        ({"fraction": 0.5, "strata": ["a"]}, "strata has 1 entries for 3 ids"),
        ({"fraction": 0.5, "groups": [1, 2]}, "groups has 2 entries for 3 ids"),
        ({"fraction": 0.5, "ids": [], "strata": []}, "ids is empty"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"ids": ["x", "y", "z"], "strata": ["a", "a", "b"], **changes}
    with pytest.raises(ValueError, match=message):
        low_shot_split(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give one of count and fraction"),
        ({"count": 3}, "count is 3, expected 1 to 2 of the 3 items"),
        ({"fraction": 1.0}, r"fraction is 1\.0, expected a number in \(0, 1\)"),
        ({"count": 2, "groups": ["a", "a", "a"]}, "takes every group, nothing is left to train on"),
    ],
)
def test_bad_holdouts_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        holdout_split(**{"ids": ["x", "y", "z"], "groups": ["a", "a", "b"], **changes})
