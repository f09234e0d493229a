"""The settings of one training run, and how a run folder remembers them."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cliptd.utils.files import write_atomically
from cliptd.utils.options import shown_default
from cliptd.utils.run_folder import differences

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["no", "fp16", "bf16"]
Tracker = Literal["tensorboard", "wandb", "trackio"]

# Settings that leave every sample, loss and weight as they are: a run may be resumed with others. What was read before
# a run stopped at a bad sample had none.
FREE_ON_RESUME = frozenset({"num_workers", "save_every", "track", "resume", "on_bad_sample"})


@dataclass
class TrainingConfig:
    """Settings of `cliptd.training.train`. One step is one optimizer update.

    Raises:
        ValueError: a value is out of range; the message names the field.
    """

    steps: int = 600
    """Optimizer updates to make."""
    batch_size: int = 32
    """GLOBAL number of examples per optimizer step, over all processes and accumulated micro-batches."""
    micro_batch_size: Annotated[int | None, shown_default("no accumulation")] = None
    """Examples per process and forward pass; accumulation follows from it. None: no accumulation."""
    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases, norms and other vectors have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's two decay rates."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0 to its peak."""
    schedule: Schedule = "cosine"
    """Learning rate after the warm-up: down to 0 by a cosine or a line, or constant."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0: no clipping."""
    seed: int = 0
    """Fixes the order of the examples, augmentation and dropout."""
    eval_every: int = 100
    """Steps between evaluations; the last step is always evaluated. 0: only the last step."""
    patience: int = 0
    """Stop after this many evaluations in a row without a better metric; 0: never stop early."""
    metric: Annotated[str | None, shown_default("none, the last evaluation's weights are kept")] = None
    """The evaluation's key that chooses the best weights; higher is better. None: the last evaluation's are kept."""
    save_every: int = 100
    """Steps between checkpoints; the last step is always saved. 0: only the last step."""
    resume: Literal["auto", "never"] = "auto"
    """auto: go on from the run folder's newest complete checkpoint; never: remove its checkpoints
    and log and start anew."""
    num_workers: int = 0
    """Processes that prepare batches ahead, per training process; 0: prepare them in between the steps."""
    mixed_precision: Annotated[Precision | None, shown_default("what accelerate was configured with")] = None
    """Autocast type; None: what `accelerate launch` was configured with ("no" without it)."""
    track: Annotated[Tracker | None, shown_default("none")] = None
    """Also send losses and metrics to this tracker, through accelerate."""
    deterministic: bool = False
    """Deterministic kernels only (slower on GPUs); an operation that has none raises."""
    find_unused_parameters: bool = True
    """Multi-process training tolerates parameters that a step does not use; false is slightly faster."""

    def __post_init__(self) -> None:
        betas = tuple(self.betas)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"TrainingConfig.betas is {betas}, expected two numbers in [0, 1)")
        self.betas = betas
        positive = {"steps": self.steps, "batch_size": self.batch_size, "lr": self.lr}
        if self.micro_batch_size is not None:
            positive["micro_batch_size"] = self.micro_batch_size
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"TrainingConfig.{name} is {value}, expected a number above 0")
        for name in (
            "weight_decay",
            "warmup_steps",
            "clip_norm",
            "eval_every",
            "patience",
            "save_every",
            "num_workers",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"TrainingConfig.{name} is {getattr(self, name)}, expected 0 or more")
        if self.patience and self.metric is None:
            raise ValueError(f"TrainingConfig.patience is {self.patience}, but no metric says what is better")
        choices = {
            "schedule": get_args(Schedule),
            "mixed_precision": (None, *get_args(Precision)),
            "track": (None, *get_args(Tracker)),
            "resume": ("auto", "never"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"TrainingConfig.{name} is {getattr(self, name)!r}, expected one of {list(allowed)}"
                )

    def accumulation(self, processes: int) -> int:
        """Micro-batches per optimizer step and process, so that batch_size = processes x micro x
        accumulation.

        Raises:
            ValueError: batch_size is not such a product.
        """
        if self.batch_size % processes:
            raise ValueError(
                f"TrainingConfig.batch_size {self.batch_size} cannot be shared evenly by {processes} "
                f"processes; choose a multiple of {processes}"
            )
        per_process = self.batch_size // processes
        micro = self.micro_batch_size or per_process
        if per_process % micro:
            raise ValueError(
                f"TrainingConfig.batch_size {self.batch_size} is not {processes} processes x "
                f"micro_batch_size {micro} x a whole number of accumulated micro-batches; choose a "
                f"micro_batch_size that divides {per_process}"
            )
        return per_process // micro

    def learning_rate_factor(self, step: int) -> float:
        """What multiplies the peak learning rate in the update after `step` finished ones (a pure function).

        >>> config = TrainingConfig(steps=10, warmup_steps=2, schedule="linear")
        >>> [config.learning_rate_factor(step) for step in (0, 1, 2, 6)]
        [0.5, 1.0, 1.0, 0.5]
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        if self.schedule == "constant":
            return 1.0
        return 1.0 - progress if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def resolved(config: TrainingConfig, **facts: Any) -> dict[str, Any]:
    """The configuration and further facts of a run as plain JSON values; paths and the like become text."""
    return json.loads(json.dumps({**dataclasses.asdict(config), **facts}, default=str))


def refuse_other_config(path: Path, current: dict[str, Any]) -> None:
    """Compare a run folder's config.json with the run that wants to go on in it.

    Raises:
        ValueError: a setting that changes results differs; the message names each with both values.
    """
    if not path.exists():
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); use another run_dir or resume='never'") from error
    bound, asked = ({k: v for k, v in one.items() if k not in FREE_ON_RESUME} for one in (stored, current))
    found = list(differences(bound, asked))
    if found:
        raise ValueError(
            f"{path.parent} holds a run with other settings: {'; '.join(found)}. "
            "Use the same settings to go on with it, another run_dir, or resume='never' to discard it"
        )


def write_config(path: Path, current: dict[str, Any]) -> None:
    """Write a run's resolved configuration, whole or not at all."""
    write_atomically(path, json.dumps(current, indent=2, sort_keys=False) + "\n")
