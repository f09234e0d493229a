"""What each of two gloo processes does for test_losses.py; no pytest."""

import torch
import torch.distributed as dist

from tests.helpers.reference_losses import CASES, embeddings, value_and_gradients


def work(index: int, address: str, results: str) -> None:
    """Every loss on three of the pairs or on the other five."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=index, world_size=2)
    own = slice(0, 3) if index == 0 else slice(3, 8)
    found = {
        name: value_and_gradients(ours, {key: value[own] for key, value in embeddings().items()})
        for name, (ours, _) in CASES.items()
    }
    torch.save(found, f"{results}/{index}.pt")
    dist.destroy_process_group()
