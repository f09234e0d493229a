"""What each of two processes does for test_shared_store.py; no pytest."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator

from cliptd.data.pairs.pair import Pair
from cliptd.embedding.collator import OpenedPairs
from cliptd.embedding.pair_store import store_pairs
from cliptd.teachers import load_teacher
from tests.helpers.tiny_clip import tiny_image

BAD = 6


def pairs_of(asked: list[str]) -> list[Pair]:
    """Nine pairs of eight images, whose openings are noted; one cannot be opened."""

    def opened(number: int):
        asked.append(f"{number}.png")
        if number == BAD:
            raise ValueError(f"image {number}.png is corrupt")
        return tiny_image(number)

    numbers = [*range(8), 0]
    return [Pair(f"{n}.png", lambda n=n: opened(n), f"a dog {n % 3}") for n in numbers]


def work(index: int, port: int, teacher: str, folder: str) -> None:
    """Write the store together; each saves what it opened and what it heard."""
    torch.set_num_threads(1)
    place = {
        "RANK": index,
        "LOCAL_RANK": index,
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in place.items()})
    accelerator, asked = Accelerator(cpu=True), []
    opened = OpenedPairs(pairs_of(asked), on_bad_sample="skip")
    bad = store_pairs(
        Path(folder) / "store", load_teacher(teacher), opened, batch_size=2, accelerator=accelerator
    )
    torch.save({"opened": asked, "bad": bad}, f"{folder}/{index}.pt")
    torch.distributed.destroy_process_group()
