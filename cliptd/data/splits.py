"""Low-shot and held-out splits that are the same on every machine.

Items are ordered by the SHA-256 of seed and id, so a split depends on the ids and the seed alone. The order of the
file, the versions of libraries and random generators do not matter.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LOOK_AHEAD = 16
"""The number of next groups from which the one that keeps the class shares best is taken."""


@dataclass(frozen=True)
class Split:
    """Chosen items.

    indices: positions in the given ids. A larger split of the same seed begins with the same ones.
    hash: "sha256:" and 16 hex digits of the chosen ids, which do not depend on their order.
    """

    indices: list[int]
    hash: str

    def __len__(self) -> int:
        return len(self.indices)


def low_shot_split(
    ids: Sequence[str],
    strata: Sequence[Hashable],
    *,
    fraction: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Split:
    """Choose a stratified part of a data set. For one seed, smaller parts are prefixes of larger ones.

    Args:
        ids: unique names of the items.
        strata: each item's class. In every prefix, the count of a class is within 1 item of its share.
        fraction: the part of all items to choose, in (0, 1]. It is rounded to whole items, at least one.
        per_class: the number of items to choose of every class, instead of `fraction`.
        seed: another seed gives another part.
        groups: each item's group, such as its image; a group is taken as a whole. The last group may then exceed the
            count. With `per_class`, other classes of the groups may exceed it. The class shares are kept as well as
            the next few groups allow.

    Raises:
        ValueError: an argument is out of range or inconsistent; the message names it.

    >>> ids = [f"val-{i}" for i in range(100)]
    >>> answer_labels = [i % 4 for i in range(100)]
    >>> small, large = (low_shot_split(ids, answer_labels, fraction=f) for f in (0.08, 0.2))
    >>> len(small), large.indices[:8] == small.indices, sorted(i % 4 for i in small.indices)
    (8, True, [0, 0, 1, 1, 2, 2, 3, 3])
    """
    _check_ids(ids, strata=strata, groups=groups)
    if (fraction is None) == (per_class is None):
        raise ValueError(
            f"give one of fraction and per_class; got fraction={fraction}, per_class={per_class}"
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, expected a number in (0, 1], such as 0.01 for one percent")
    sizes = Counter(strata)
    if per_class is not None:
        name, smallest = min(sizes.items(), key=lambda item: item[1])
        if not 0 < per_class <= smallest:
            raise ValueError(
                f"per_class is {per_class}, expected 1 to {smallest}: class {name!r} has {smallest} items"
            )
    target = len(ids) if fraction is None else max(1, int(fraction * len(ids) + 0.5))
    if groups is None:
        order = _by_hash(range(len(ids)), ids, seed)
        chosen = (
            _first_of_each(order, strata, per_class)
            if per_class
            else _proportional(order, strata, seed)[:target]
        )
    elif per_class:
        chosen = _groups_for_each(_grouped(ids, groups, seed), strata, per_class)
    else:
        chosen = _balanced_groups(_grouped(ids, groups, seed), strata, target)
    return Split(chosen, _hash(ids[i] for i in chosen))


def holdout_split(
    ids: Sequence[str],
    groups: Sequence[Hashable],
    *,
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> tuple[Split, Split]:
    """Return (training, held out). Whole groups are held out until they have `count` items or `fraction` of all.

    No group, such as an image, is on both sides. The choice is independent of the low-shot splits of the same seed.
    Make this split first, and take low-shot splits of the training side.

    Raises:
        ValueError: an argument is out of range or inconsistent, or nothing would be left to train on.
    """
    _check_ids(ids, groups=groups)
    if count is None and fraction is not None:
        if not 0 < fraction < 1:
            raise ValueError(f"fraction is {fraction}, expected a number in (0, 1)")
        count = max(1, int(fraction * len(ids) + 0.5))
    elif count is not None and fraction is None:
        if not 0 < count < len(ids):
            raise ValueError(f"count is {count}, expected 1 to {len(ids) - 1} of the {len(ids)} items")
    else:
        raise ValueError(f"give one of count and fraction; got count={count}, fraction={fraction}")
    held: list[int] = []
    kept: list[int] = []
    for members in _grouped(ids, groups, f"{seed}/holdout"):
        (held if len(held) < count else kept).extend(members)
    if not kept:
        raise ValueError(
            f"holding out {count} of {len(ids)} items takes every group, nothing is left to train on"
        )
    return Split(kept, _hash(ids[i] for i in kept)), Split(held, _hash(ids[i] for i in held))


def _check_ids(ids: Sequence[str], **columns: Sequence[Any] | None) -> None:
    if not len(ids):
        raise ValueError("ids is empty, there is nothing to split")
    for name, column in columns.items():
        if column is not None and len(column) != len(ids):
            raise ValueError(f"{name} has {len(column)} entries for {len(ids)} ids; give one each")
    if len(set(ids)) != len(ids):
        name, times = Counter(ids).most_common(1)[0]
        raise ValueError(f"the id {name!r} occurs {times} times; ids must be unique")


def _key(seed: int | str, name: object) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()


def _by_hash(indices: Iterable[int], ids: Sequence[str], seed: int | str) -> list[int]:
    return sorted(indices, key=lambda index: _key(seed, ids[index]))


def _hash(ids: Iterable[str]) -> str:
    return "sha256:" + hashlib.sha256("\n".join(sorted(map(str, ids))).encode()).hexdigest()[:16]


def _members(order: list[int], strata: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    members: dict[Hashable, list[int]] = {}
    for index in order:
        members.setdefault(strata[index], []).append(index)
    return members


def _first_of_each(order: list[int], strata: Sequence[Hashable], per_class: int) -> list[int]:
    rounds = zip(*(members[:per_class] for members in _members(order, strata).values()), strict=True)
    return [index for one_of_each in rounds for index in one_of_each]


def _proportional(order: list[int], strata: Sequence[Hashable], seed: int) -> list[int]:
    """Return all items in an order in which, in every prefix, each class is less than one item from its share.

    The j-th item of a class with m of n items must be at a position in [floor(j n/m), ceil((j+1) n/m)). At each
    position the item with the earliest deadline is taken among those allowed there. This always succeeds, as
    proportionate fairness on one processor does.
    """
    members = _members(order, strata)
    classes = sorted(members, key=lambda name: _key(seed, name))
    total = len(order)
    taken = [0] * len(classes)
    waiting = [(0, number) for number in range(len(classes))]  # (first position, class), a heap
    ready: list[tuple[int, int]] = []  # (deadline, class), a heap
    result = []
    for position in range(total):
        while waiting and waiting[0][0] <= position:
            number = heapq.heappop(waiting)[1]
            size = len(members[classes[number]])
            heapq.heappush(ready, (-(-(taken[number] + 1) * total // size), number))
        number = heapq.heappop(ready)[1]
        mine = members[classes[number]]
        result.append(mine[taken[number]])
        taken[number] += 1
        if taken[number] < len(mine):
            heapq.heappush(waiting, (taken[number] * total // len(mine), number))
    return result


def _grouped(ids: Sequence[str], groups: Sequence[Hashable], seed: int | str) -> list[list[int]]:
    """Return the groups in the order of their hash, and the members of each in the order of theirs."""
    members = _members(_by_hash(range(len(ids)), ids, seed), groups)
    return [members[name] for name in sorted(members, key=lambda name: _key(seed, f"group\n{name}"))]


def _groups_for_each(grouped: list[list[int]], strata: Sequence[Hashable], per_class: int) -> list[int]:
    """Take every group with an item of a class that is still below `per_class`. A larger number adds groups only."""
    counts: Counter[Hashable] = Counter()
    chosen: list[int] = []
    for members in grouped:
        if any(counts[strata[index]] < per_class for index in members):
            counts.update(strata[index] for index in members)
            chosen += members
    return chosen


def _balanced_groups(grouped: list[list[int]], strata: Sequence[Hashable], target: int) -> list[int]:
    """Take groups until there are `target` items. Each is the one of the next few that keeps the shares best."""
    classes = {name: number for number, name in enumerate(dict.fromkeys(strata))}
    counts = np.zeros((len(grouped), len(classes)), dtype=np.int64)
    for row, members in enumerate(grouped):
        for index in members:
            counts[row, classes[strata[index]]] += 1
    totals = counts.sum(0)
    window = list(range(min(LOOK_AHEAD, len(grouped))))
    upcoming = len(window)
    taken = np.zeros(len(classes), dtype=np.int64)
    chosen: list[int] = []
    while len(chosen) < target:
        after = taken + counts[window]
        # The deviation of a class from its share, times both totals, so that it is a whole number.
        deviation = np.abs(after * totals.sum() - after.sum(1, keepdims=True) * totals)
        row = window.pop(int(deviation.max(1).argmin()))
        taken += counts[row]
        chosen += grouped[row]
        if upcoming < len(grouped):
            window.append(upcoming)
            upcoming += 1
    return chosen
