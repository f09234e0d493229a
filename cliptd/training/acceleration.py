"""The Accelerator of a run: devices, mixed precision, processes and trackers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs, PartialState
from accelerate.utils import parse_flag_from_env
from torch import nn

from cliptd.training.config import TrainingConfig
from cliptd.training.tracking import require_tracker

LONG_TIMEOUT = InitProcessGroupKwargs(timeout=timedelta(hours=24))
"""The time that processes wait for one in which the teacher encodes the whole training set."""


def start_processes() -> PartialState:
    """Return accelerate's state of this process. The first call starts the process group of a run of several."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), **LONG_TIMEOUT.to_kwargs())


def make_accelerator(config: TrainingConfig, run_dir: str | Path) -> Accelerator:
    """Return the Accelerator that `train` would make. A script calls this if it needs the accelerator before.

    Raises:
        ImportError: the tracker's package is missing.
        ValueError: the configuration asks for float16 on a CPU.
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
    """Return the accelerator if it fits the configuration.

    Raises:
        ValueError: it has another precision, accumulation of its own or no tracker, it cannot do float16, or it does
            not know of the other processes.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and accelerator.num_processes == 1:
        raise ValueError(
            f"{launched} processes were launched, but accelerate takes each for a run of its own (on CPUs unless "
            "ACCELERATE_USE_CPU=true is set); start them with `accelerate launch`"
        )
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


def refuse_coupled_accumulation(model: nn.Module, config: TrainingConfig, processes: int) -> None:
    """Refuse accumulation for a model whose loss of a batch is not the mean of its parts' losses.

    Raises:
        ValueError: the model's `couples_batch` is true, or the batch size is not divisible.
    """
    if config.accumulation(processes) > 1 and getattr(model, "couples_batch", False):
        why = getattr(model, "couples_batch_why", "its loss is not a sum over examples")
        raise ValueError(
            f"gradient accumulation would change the loss: {why}. Raise micro_batch_size from "
            f"{config.micro_batch_size} to {config.batch_size // processes}, or lower batch_size"
        )


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Restore the model's own attributes after the block, which accelerate changes when it prepares a model."""
    ours = ("forward", "_original_forward", "_is_accelerate_prepared")  # autocast replaces forward
    before = {name: vars(model)[name] for name in ours if name in vars(model)}
    try:
        yield
    finally:
        for name in ours:
            vars(model).pop(name, None)
        vars(model).update(before)
