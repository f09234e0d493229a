"""Evaluation during training, and the weights of the best evaluation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from cliptd.training.checkpoint import save_weights
from cliptd.training.config import TrainingConfig
from cliptd.training.seeding import seed_generators


@dataclass
class Progress:
    """The part of a checkpoint that is neither step nor tensors, as plain JSON values."""

    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    evaluations_without_gain: int = 0
    finished: bool = False
    scaler: dict[str, Any] | None = None


def is_evaluated(step: int, config: TrainingConfig) -> bool:
    """Return whether the model is evaluated after `step` finished steps."""
    return step == config.steps or (config.eval_every > 0 and step % config.eval_every == 0)


def evaluate_model(
    evaluate: Callable[[nn.Module], dict[str, float]], model: nn.Module, config: TrainingConfig, step: int
) -> dict[str, float]:
    """Evaluate the model, and return the main process's metrics on every process.

    Raises:
        ValueError: the metric that chooses the best weights is missing or not a number.
    """
    model.eval()
    seed_generators(config.seed, "evaluate", step)  # some students draw random numbers in eval mode too
    with torch.no_grad():
        metrics = {name: float(value) for name, value in evaluate(model).items()}
    model.train()
    metrics = broadcast_object_list([metrics])[0]
    if config.metric is None:
        return metrics
    if config.metric not in metrics:
        raise ValueError(
            f"TrainingConfig.metric is {config.metric!r}, the evaluation returned {sorted(metrics)}; "
            "choose one of these"
        )
    if math.isnan(metrics[config.metric]):
        raise ValueError(
            f"the metric {config.metric!r} is NaN at step {step}, expected a number; look at its evaluation or lower lr"
        )
    return metrics


def keep_if_best(
    metrics: dict[str, float],
    step: int,
    progress: Progress,
    model: nn.Module,
    config: TrainingConfig,
    run_dir: Path,
    *,
    writes: bool,
) -> None:
    """Note an evaluation in `progress`, and save the weights if it is the best.

    Without a metric the latest evaluation counts as the best. Older best weights stay as long as a complete checkpoint
    names them; see `drop_other_best`.

    Args:
        writes: true on the process that saves the weights.
    """
    chosen = config.metric
    if chosen and progress.best_step and metrics[chosen] <= progress.best_metrics[chosen]:
        progress.evaluations_without_gain += 1
        return
    progress.best_step, progress.best_metrics, progress.evaluations_without_gain = step, metrics, 0
    if writes:
        save_weights(best_path(run_dir, step), model)


def best_path(run_dir: Path, step: int) -> Path:
    """Return the path of the weights that were evaluated after `step` steps."""
    return run_dir / f"best-{step:08d}.safetensors"


def drop_other_best(run_dir: Path, best_step: int | None) -> None:
    """Delete all best weights except those of `best_step`, also half-written ones. None: delete all."""
    for path in run_dir.glob("best-*.safetensors*"):
        if best_step is None or path != best_path(run_dir, best_step):
            path.unlink()
