"""Run a classifier over a data set, for the class that it chooses for every example."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from cliptd.utils.stopping import leave_signals_to_parent
from tasks.students.columns import student_columns

if TYPE_CHECKING:
    from accelerate import Accelerator


@torch.no_grad()
def predict_classes(
    model: nn.Module,
    dataset: Any,
    collate: Callable[[Sequence[Any]], dict[str, Any]],
    *,
    lengths: Sequence[int] | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    accelerator: "Accelerator | None" = None,
) -> np.ndarray:
    """Return (examples,) the class with the highest logit for each example.

    Args:
        model: gives logits (B, A) of a batch, wrapped or not. It stays in the mode in which it is.
        lengths: of the examples' texts. Long texts go first, beside others of their length, for little padding.
        batch_size: examples in a forward, per process.
        accelerator: shares the examples between its processes and gives every process all results.
    """
    # Processes may run unequal numbers of batches, with which the forward of DDP would hang.
    if accelerator is not None:
        model = accelerator.unwrap_model(model)
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    own = list(range(rank * len(dataset) // processes, (rank + 1) * len(dataset) // processes))
    if lengths is not None:
        own.sort(key=lambda index: -lengths[index])
    loader = DataLoader(
        Subset(dataset, own),
        batch_size,
        num_workers=num_workers,
        collate_fn=partial(student_columns, collate),
        worker_init_fn=leave_signals_to_parent,
    )
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    chosen = []
    for batch in loader:
        logits = model(**{name: value.to(device, non_blocking=True) for name, value in batch.items()}).logits
        chosen.append(logits.argmax(1).cpu())
    model.train(was_training)
    # One process fills each place, and it is zero in the others.
    classes = torch.zeros(len(dataset), dtype=torch.int64)
    if own:
        classes[own] = torch.cat(chosen)
    if accelerator is not None and processes > 1:
        classes = accelerator.reduce(classes.to(accelerator.device), reduction="sum").cpu()
    return classes.numpy()
