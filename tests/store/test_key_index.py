"""Rows by key: the answers of a dict, in whatever way the keys are added, in 16 bytes each."""

import hashlib
import random

import numpy as np
import pytest

from cliptd.store import key_index
from cliptd.store.key_index import KeyIndex, hash_keys


def test_it_answers_as_a_dict_does(monkeypatch):
    monkeypatch.setattr(key_index, "max", lambda *values: 7, raising=False)  # sort often
    rng, index, expected, count = random.Random(0), KeyIndex(), {}, 0
    for turn in range(60):
        keys = [f"key {rng.randrange(400)} é" for _ in range(rng.randrange(9))]
        index.extend([hash_keys(keys)]) if turn % 3 == 0 else index.add(keys)
        for key in keys:
            expected.setdefault(key, count)
            count += 1
        assert len(index) == count
        known = list(expected)
        np.testing.assert_array_equal(index.find(known), [expected[key] for key in known])
        assert all(key in index for key in known[:5])
        assert "another" not in index
    with pytest.raises(KeyError, match="another"):
        index.find([known[0], "another", "more"])
    assert len(index.find([])) == 0


def test_a_hash_is_a_function_of_the_key():
    assert hash_keys(["a", "b", "a"]).tolist() == hash_keys(["a", "b"]).tolist() + hash_keys(["a"]).tolist()
    assert hash_keys(["a"])[0] == int.from_bytes(hashlib.blake2b(b"a", digest_size=8).digest(), "little")


def test_the_digest_is_of_the_keys_in_whatever_order():
    one, other = KeyIndex(), KeyIndex()
    one.extend([hash_keys(["a", "b"]), hash_keys(["c"])])
    other.add(["c", "a"])
    assert one.digest() != other.digest()
    other.add(["b"])
    assert one.digest() == other.digest()


def test_a_key_costs_sixteen_bytes():
    hashes = np.random.default_rng(0).integers(0, 2**64, 300_000, dtype=np.uint64)
    index = KeyIndex()
    index.extend([hashes])
    assert index._hashes.nbytes + index._rows.nbytes == 16 * len(hashes)
