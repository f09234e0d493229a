"""Row numbers by key, in 16 bytes for each key, so that a store of tens of millions of images opens in seconds."""

import hashlib
from collections.abc import Sequence

import numpy as np


def hash_keys(keys: Sequence[str]) -> np.ndarray:
    """Return (n,) uint64 hashes. The chance that any two of 40 million keys have the same hash is 1 in 20,000."""
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(b"".join(digests), "<u8")


class KeyIndex:
    """Row numbers by key, in the order of adding. The first row of a key that is added twice counts.

    Forked processes share its arrays. The latest keys are in a dict until there are enough of them to sort.
    """

    def __init__(self) -> None:
        self._hashes, self._rows = np.empty(0, np.uint64), np.empty(0, np.int64)  # sorted by hash
        self._recent: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return bool(self._look_up(hash_keys([key]))[0] >= 0)

    def extend(self, hashes: Sequence[np.ndarray]) -> None:
        """Add many rows at once, given the hashes of their keys."""
        parts = [np.fromiter(self._recent, np.uint64, len(self._recent)), *hashes]
        total = sum(len(part) for part in hashes)
        new = np.arange(self._count, self._count + total, dtype=np.int64)
        rows = np.concatenate(
            [self._rows, np.fromiter(self._recent.values(), np.int64, len(self._recent)), new]
        )
        joined = np.concatenate([self._hashes, *parts])
        order = np.argsort(joined, kind="stable")
        self._hashes, self._rows, self._recent = joined[order], rows[order], {}
        self._count += total

    def add(self, keys: Sequence[str]) -> None:
        """Add a few rows, given their keys."""
        for hashed in hash_keys(keys).tolist():
            self._recent.setdefault(hashed, self._count)
            self._count += 1
        if len(self._recent) > max(2**20, len(self._hashes) // 2):
            self.extend([])

    def digest(self) -> str:
        """Return 16 hex digits of the keys, which do not depend on the order of adding."""
        self.extend([])
        return hashlib.sha256(np.ascontiguousarray(self._hashes, "<u8").data).hexdigest()[:16]

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """Return (n,) row numbers. Raises KeyError with the first key that is not there."""
        rows = self._look_up(hash_keys(keys))
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise KeyError(keys[missing[0]])
        return rows

    def _look_up(self, hashes: np.ndarray) -> np.ndarray:
        """Return (n,) row numbers, -1 for each hash that is not there."""
        rows = np.full(len(hashes), -1, np.int64)
        if len(self._hashes):
            place = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
            found = self._hashes[place] == hashes
            rows[found] = self._rows[place[found]]
        if self._recent:
            for position in np.flatnonzero(rows < 0):
                rows[position] = self._recent.get(int(hashes[position]), -1)
        return rows
