"""The stream of examples: every epoch whole, every slice where it belongs, whatever shares the work."""

import os
import pickle
import random

import numpy as np
import pytest
import torch

from cliptd.training import sampler
from cliptd.training.sampler import ExampleStream, MicroBatches, epoch_permutation
from cliptd.training.seeding import seed_generators
from cliptd.utils.seeds import derive_seed


def micro_batches(**settings):
    defaults = {"seed": 5, "micro_batch_size": 4, "accumulation": 1, "rank": 0, "processes": 1}
    return MicroBatches(list(range(10)), list, **{**defaults, **settings})


def test_every_epoch_holds_every_item_once():
    indices = ExampleStream(0, 10).indices(0, 40)
    epochs = [indices[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_any_part_of_the_stream_is_the_same_part():
    whole = ExampleStream(3, 7).indices(0, 50)
    assert all(
        ExampleStream(3, 7).indices(a, b) == whole[a:b] for a, b in [(0, 3), (5, 30), (21, 22), (48, 50)]
    )
    assert ExampleStream(4, 7).indices(0, 50) != whole


def test_a_permutation_is_the_same_on_every_machine():
    # Written down once: a change would silently change every published run.
    assert epoch_permutation(0, 8, 0).tolist() == [6, 2, 5, 1, 0, 4, 3, 7]
    assert derive_seed(0, "forward", 3, 0, 1) == 6285463120706719442


def test_ranks_and_micro_batches_share_the_global_batch():
    one = micro_batches(micro_batch_size=12)
    for processes, accumulation in [(2, 1), (1, 3), (2, 3), (3, 2)]:
        size = 12 // processes // accumulation
        for step in range(4):
            shares = [
                micro_batches(
                    micro_batch_size=size, accumulation=accumulation, processes=processes, rank=rank
                )[step * accumulation + micro]
                for micro in range(accumulation)
                for rank in range(processes)
            ]
            assert [item for share in shares for item in share] == one[step]


def test_loader_starts_anywhere_and_workers_change_nothing():
    class Noisy:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return index, random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    batches = MicroBatches(Noisy(), list, seed=1, micro_batch_size=3, accumulation=2)
    whole = list(batches.loader(0, 6))
    assert len(whole) == 12
    assert list(batches.loader(4, 6)) == whole[8:]
    assert list(batches.loader(0, 6, num_workers=2)) == whole
    other = MicroBatches(Noisy(), list, seed=1, micro_batch_size=6, accumulation=1)
    assert [a + b for a, b in zip(whole[::2], whole[1::2], strict=True)] == list(other.loader(0, 6))


def test_forked_workers_share_the_order_of_the_first_epoch(tmp_path, monkeypatch):
    def permutation(*arguments):
        (tmp_path / str(os.getpid())).touch()
        return epoch_permutation(*arguments)

    monkeypatch.setattr(sampler, "epoch_permutation", permutation)
    batches = micro_batches(micro_batch_size=2)
    assert len(list(batches.loader(0, 5, num_workers=2))) == 5
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]
    assert next(iter(batches.stream._epochs.values())).nbytes == 10
    assert not pickle.loads(pickle.dumps(batches.stream))._epochs


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="training dataset is empty"):
        ExampleStream(0, 0)


def test_seeding_reaches_all_generators():
    def draw(*parts):
        seed_generators(*parts)
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    assert draw(0, 1) == draw(0, 1)
    assert all(a != b for a, b in zip(draw(0, 1), draw(0, 2), strict=True))
