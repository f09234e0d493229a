"""The Accelerator of a run: devices, mixed precision, processes and trackers."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn

from cliptd.training.config import TrainingConfig
from cliptd.training.tracking import require_tracker

LONG_TIMEOUT = InitProcessGroupKwargs(timeout=timedelta(hours=24))
"""Others wait while one process lets the teacher look at the whole training set."""


def make_accelerator(config: TrainingConfig, run_dir: str | Path) -> Accelerator:
    """The Accelerator that `train` makes for itself; make it first where a script needs it earlier.

    Raises:
        ImportError: the tracker's package is missing.
        ValueError: float16 was asked for on a CPU.
    """
    require_tracker(config)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=config.track,
        project_dir=str(run_dir),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=config.find_unused_parameters),
            LONG_TIMEOUT,
        ],
    )
    return check_accelerator(accelerator, config)


def check_accelerator(accelerator: Accelerator, config: TrainingConfig) -> Accelerator:
    """Refuse an accelerator that cannot do, or does otherwise than, the configuration asks."""
    make_it = "make it with cliptd.training.make_accelerator(config, run_dir)"
    if config.mixed_precision not in (None, accelerator.mixed_precision):
        raise ValueError(
            f"TrainingConfig.mixed_precision is {config.mixed_precision!r} but the given accelerator has "
            f"{accelerator.mixed_precision!r}; {make_it}"
        )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("mixed_precision 'fp16' needs a GPU and this run is on the CPU; use 'bf16' or 'no'")
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"the accelerator has gradient_accumulation_steps={accelerator.gradient_accumulation_steps}, "
            "expected 1; set TrainingConfig.micro_batch_size instead, from which accumulation follows"
        )
    if config.track and not accelerator.log_with:
        raise ValueError(
            f"TrainingConfig.track is {config.track!r} but the given accelerator has no tracker; {make_it}"
        )
    return accelerator


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Afterwards the model has none of the attributes that preparing it for training has set on it."""
    ours = ("forward", "_original_forward", "_is_accelerate_prepared")  # autocast replaces forward
    before = {name: vars(model)[name] for name in ours if name in vars(model)}
    try:
        yield
    finally:
        for name in ours:
            vars(model).pop(name, None)
        vars(model).update(before)
