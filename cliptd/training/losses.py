"""Read a step's loss and its terms, and name the samples of a loss that is not finite."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from cliptd.training.sampler import MicroBatches


def loss_of(output: Any) -> Tensor:
    """Return the loss of a model's output, an attribute or a key.

    Raises:
        ValueError: it is missing or not a scalar tensor.
    """
    loss = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if not isinstance(loss, Tensor) or loss.ndim:
        found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
        raise ValueError(
            f"the model's output ({type(output).__name__}) has the loss {found}, expected a scalar tensor; "
            "does the batch carry its labels?"
        )
    return loss


def terms_of(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Return the scalars of `model.last_terms`, in which a distilled model holds the parts of its loss."""
    terms = getattr(model, "last_terms", None) or {}
    tensors = {f"loss_{name}": torch.as_tensor(value, device=loss.device) for name, value in terms.items()}
    return {name: value.detach() for name, value in tensors.items() if value.ndim == 0}


def not_finite(loss: float, norm: float, step: int, batches: MicroBatches) -> str:
    """Return the message about a loss or gradient that is not finite; it names the step and the samples."""
    what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
    last = batches.positions(step, batches.accumulation - 1)
    indices = batches.stream.indices(last.start, last.stop)
    return (
        f"{what} at step {step + 1}; process {batches.rank}'s last samples are the stream positions "
        f"{last.start} to {last.stop - 1}, dataset items {indices}. Look at these items, or lower lr"
    )
