"""The order of a run's examples: a pure function of the seed, the data's length and the position.

The stream is the permutations of the epochs, one after another. Step t takes the positions [t*B, (t+1)*B). On rank r of
W processes, micro-batch m takes the contiguous slice that starts at t*B + (m*W + r)*micro. A restart, accumulation or
another number of processes therefore neither loses nor repeats an example, and no sampler has a state to save.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from cliptd.data.map_style import MapStyle
from cliptd.training.seeding import seed_generators
from cliptd.utils.seeds import derive_seed
from cliptd.utils.stopping import leave_signals_to_parent


def epoch_permutation(seed: int, length: int, epoch: int) -> np.ndarray:
    """Return the order of one epoch: int64 (length,), the same on every machine and numpy version.

    It sorts by the raw words of a counter-based generator, whose stream numpy guarantees.
    """
    words = np.random.Philox(key=derive_seed(seed, "epoch", epoch)).random_raw(length)
    return np.argsort(words, kind="stable")


class ExampleStream:
    """The dataset indices by stream position.

    >>> stream = ExampleStream(seed=0, length=5)
    >>> sorted(stream.indices(0, 5)) == sorted(stream.indices(5, 10)) == [0, 1, 2, 3, 4]
    True
    """

    def __init__(self, seed: int, length: int):
        if length <= 0:
            raise ValueError("the training dataset is empty, expected at least one example")
        self.seed = seed
        self.length = length
        self._epochs: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_epochs": {}}  # a spawned worker makes the orders itself

    def indices(self, start: int, stop: int) -> list[int]:
        """Return the dataset indices at the positions [start, stop)."""
        return [int(self._permutation(p // self.length)[p % self.length]) for p in range(start, stop)]

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # a batch touches two epochs at most, unless the data are tiny
                self._epochs.pop(next(iter(self._epochs)))
            order = epoch_permutation(self.seed, self.length, epoch)
            self._epochs[epoch] = order.astype(
                np.min_scalar_type(self.length)
            )  # 4 bytes for each example, not 8
        return self._epochs[epoch]


class MicroBatches(Dataset[Any]):
    """A dataset whose item j is the collated micro-batch j of this process: step j // accumulation.

    The random generators are seeded with the stream position before an example is read, and with the slice's start
    before it is collated. So augmentation does not depend on workers or restarts, and that of an example does not
    depend on the number of processes.
    """

    def __init__(
        self,
        dataset: MapStyle[Any],
        collate: Callable[[list[Any]], Any],
        *,
        seed: int,
        micro_batch_size: int,
        accumulation: int,
        rank: int = 0,
        processes: int = 1,
    ):
        self.dataset = dataset
        self.collate = collate
        self.stream = ExampleStream(seed, len(dataset))
        self.micro_batch_size = micro_batch_size
        self.accumulation = accumulation
        self.rank = rank
        self.processes = processes

    def positions(self, step: int, micro: int) -> range:
        """Return the stream positions of one micro-batch of this process."""
        start = ((step * self.accumulation + micro) * self.processes + self.rank) * self.micro_batch_size
        return range(start, start + self.micro_batch_size)

    def __getitem__(self, number: int) -> Any:
        positions = self.positions(*divmod(number, self.accumulation))
        examples = []
        for position, index in zip(
            positions, self.stream.indices(positions.start, positions.stop), strict=True
        ):
            seed_generators(self.stream.seed, "example", position, devices=False)
            examples.append(self.dataset[index])
        seed_generators(self.stream.seed, "collate", positions.start, devices=False)
        return self.collate(examples)

    def loader(
        self, first_step: int, steps: int, *, num_workers: int = 0, pin_memory: bool = False
    ) -> DataLoader[Any]:
        """Return a loader of the micro-batches of steps [first_step, steps), which `num_workers` processes prepare."""
        if num_workers:
            # The order is made before the workers fork, so that they share it. For 100 million examples it takes 0.4 GB
            # and half a minute.
            start = self.positions(first_step, 0).start
            self.stream.indices(start, start + 1)
        return DataLoader(
            self,
            sampler=range(first_step * self.accumulation, steps * self.accumulation),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            pin_memory=pin_memory,
            worker_init_fn=leave_signals_to_parent,
        )


def _as_it_is(batch: Any) -> Any:
    return batch
