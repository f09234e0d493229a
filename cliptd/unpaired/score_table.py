"""Scores of any number of texts in a file, ranked and freed of repetitions in bounded memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

PART, IN_MEMORY = 1 << 22, 1 << 26
"""Sentences whose entries are looked at together, and whose hashes are in memory at once."""
ENTRY = np.dtype([("score", "<f4"), ("text", "<u8")])
"""Of a sentence: its score, NaN before it is known, and a hash of its words."""


def parts(count: int) -> list[slice]:
    """What of a table is looked at together."""
    return [slice(start, start + PART) for start in range(0, count, PART)]


def distinct_texts(entries: np.ndarray, path: Path) -> np.ndarray:
    """(sentences,) bool, on disk: whether a sentence could be read and is the first with its words.

    Hashes are compared a share of them at a time, so that no more than `IN_MEMORY` are in memory.
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
    """The scores at these places from the lowest, 0, up: by their upper and then their lower 16 bits."""
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
        found.append(np.array(bits, np.uint32).view(np.float32)[()])
    return found


def _ordered(scores: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of float32 numbers."""
    bits = np.ascontiguousarray(scores).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
