"""A file with the scores of any number of sentences, ranked and freed of repetitions in bounded memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

PART = 1 << 22
"""The number of sentences whose entries are read together."""
IN_MEMORY = 1 << 26
"""The number of sentences whose hashes are in memory at once."""
ENTRY = np.dtype([("score", "<f4"), ("text", "<u8")])
"""The entry of a sentence: its score, NaN before it is known, and a hash of its words."""


def parts(count: int) -> list[slice]:
    """Return the slices of a table that are read one after the other."""
    return [slice(start, start + PART) for start in range(0, count, PART)]


def distinct_texts(entries: np.ndarray, path: Path) -> np.ndarray:
    """Write and return (sentences,) bool: a sentence could be read and is the first with its words.

    The array stays on disk. Hashes are compared one share at a time, so at most `IN_MEMORY` are in memory.

    Raises:
        ValueError: a sentence has no score yet.
    """
    found = np.lib.format.open_memmap(path, mode="w+", dtype=bool, shape=(len(entries),))
    shares = -(-len(entries) // IN_MEMORY)
    for share in range(shares):
        hashes, positions = [], []
        for part in parts(len(entries)):
            scores, texts = entries["score"][part], entries["text"][part]
            if np.isnan(scores).any():
                raise ValueError(f"{path.parent} holds sentences without scores; run the same command again")
            here = np.flatnonzero(texts % np.uint64(shares) == share)
            here = here[np.isfinite(scores[here])]
            hashes.append(texts[here])
            positions.append(here + part.start)
        _, first = np.unique(np.concatenate(hashes), return_index=True)
        found[np.concatenate(positions)[first]] = True
    return found


def scores_of_ranks(entries: np.ndarray, distinct: np.ndarray, ranks: Sequence[int]) -> list[np.float32]:
    """Return the scores of the distinct sentences at these ranks, from 0 for the lowest.

    Two passes count the upper and then the lower 16 bits of the scores.
    """
    upper = np.zeros(1 << 16, np.int64)
    for part in parts(len(entries)):
        upper += np.bincount(_ordered(entries["score"][part][distinct[part]]) >> 16, minlength=1 << 16)
    begun = np.cumsum(upper) - upper
    buckets = [int(np.searchsorted(begun, rank, side="right")) - 1 for rank in ranks]
    lower = {bucket: np.zeros(1 << 16, np.int64) for bucket in buckets}
    for part in parts(len(entries)):
        scores = _ordered(entries["score"][part][distinct[part]])
        for bucket, counts in lower.items():
            counts += np.bincount(scores[scores >> 16 == bucket] & 0xFFFF, minlength=1 << 16)
    found = []
    for rank, bucket in zip(ranks, buckets, strict=True):
        rest = int(np.searchsorted(np.cumsum(lower[bucket]), rank - begun[bucket], side="right"))
        bits = np.uint32(bucket << 16 | rest)
        bits = bits ^ np.uint32(0x80000000) if bits & np.uint32(0x80000000) else ~bits
        found.append(np.float32(np.array(bits, np.uint32).view(np.float32)))
    return found


def _ordered(scores: np.ndarray) -> np.ndarray:
    """Return unsigned integers that sort as the float32 numbers do."""
    bits = np.ascontiguousarray(scores).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
