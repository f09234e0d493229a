"""AdamW with the usual parameter groups."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cliptd.training.config import TrainingConfig


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups: matrices and larger ones with weight decay, vectors and scalars without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(
    model: nn.Module, config: TrainingConfig, parameter_groups: Iterable[dict[str, Any]] | None = None
) -> torch.optim.AdamW:
    """Return AdamW over parameter groups.

    Args:
        parameter_groups: torch's. Each may have its own lr or weight_decay. None: those of `decay_groups`.

    Raises:
        ValueError: there is nothing to train, or a group holds a parameter that is not the model's.
    """
    if parameter_groups is None:
        groups = decay_groups(model, config.weight_decay)
    else:
        groups = [{**group, "params": list(group["params"])} for group in parameter_groups]
    own = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in own for group in groups for parameter in group["params"]):
        raise ValueError(
            "parameter_groups holds a parameter that is not one of the model's; build it from this model"
        )
    if not any(group["params"] for group in groups):
        raise ValueError("the model has no parameter with requires_grad=True, there is nothing to train")
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's learning rate to its peak times `factor`. Return the first group's, for the log."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return optimizer.param_groups[0]["lr"]
