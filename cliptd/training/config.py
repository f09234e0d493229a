"""The settings of one training run, and their file in the run folder."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cliptd.utils.options import shown_default
from cliptd.utils.run_folder import as_json_values, refuse_other_settings, remembered_settings

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["no", "fp16", "bf16"]
Tracker = Literal["tensorboard", "wandb", "trackio"]

# Settings that do not change any sample, loss or weight, so a run may be resumed with others. Before a run stops at a
# bad sample there was none, so on_bad_sample may change too.
FREE_ON_RESUME = frozenset({"num_workers", "save_every", "track", "resume", "on_bad_sample"})


@dataclass
class TrainingConfig:
    """Settings of the training. One step is one optimizer update.

    Raises:
        ValueError: a value is out of range; the message names the field.
    """

    steps: int = 600
    """Optimizer updates to make."""
    batch_size: int = 32
    """GLOBAL number of examples per optimizer step: the total of all processes and accumulated micro-batches."""
    micro_batch_size: Annotated[int | None, shown_default("no accumulation")] = None
    """Examples per process and forward pass, from which accumulation follows. None: no accumulation."""
    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices. Biases, norms and other vectors have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's two decay rates."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0 to its peak."""
    schedule: Schedule = "cosine"
    """Learning rate after the warm-up: falling to 0 as a cosine or a line, or constant."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient. 0: no clipping."""
    seed: int = 0
    """Seed of the order of the examples, of augmentation and of dropout."""
    eval_every: int = 100
    """Steps between evaluations. The last step is always evaluated. 0: only the last step."""
    patience: int = 0
    """Stop after this many evaluations in a row without a better metric. 0: never stop early."""
    metric: Annotated[str | None, shown_default("none, the last evaluation's weights are kept")] = None
    """The evaluation's key that chooses the best weights. Higher is better. None: keep the last weights."""
    save_every: int = 100
    """Steps between checkpoints. The last step is always saved. 0: only the last step."""
    resume: Literal["auto", "never"] = "auto"
    """auto: go on from the run folder's newest complete checkpoint. never: delete its checkpoints and log, and start
    again."""
    num_workers: int = 0
    """Processes that prepare batches ahead, for each training process. 0: prepare them between the steps."""
    mixed_precision: Annotated[Precision | None, shown_default("what accelerate was configured with")] = None
    """Autocast type. None: as `accelerate launch` was configured, or "no" without it."""
    track: Annotated[Tracker | None, shown_default("none")] = None
    """Send losses and metrics to this tracker too, through accelerate."""
    deterministic: bool = False
    """Use deterministic kernels only, which are slower on GPUs. An operation without one raises an error."""
    find_unused_parameters: bool = True
    """Allow parameters that a step does not use, in training by several processes. false is slightly faster."""

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
        """Return the micro-batches per optimizer step and process: batch_size / (processes × micro_batch_size).

        Raises:
            ValueError: batch_size is not divisible.
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
        """Return the factor of the peak learning rate in the update after `step` finished ones.

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
    """Return the configuration and further facts of a run as plain JSON values. Paths and the like become text."""
    return as_json_values({**dataclasses.asdict(config), **facts})


def refuse_other_config(path: Path, current: dict[str, Any]) -> None:
    """Compare a run folder's config.json with the settings of a run that is to be resumed in it.

    Raises:
        ValueError: the file is not JSON, or a setting that changes results differs. The message names each such setting
            with both values.
    """
    stored = remembered_settings(path, "use another run_dir or resume='never'")
    if stored is None:
        return
    bound, asked = ({k: v for k, v in one.items() if k not in FREE_ON_RESUME} for one in (stored, current))
    refuse_other_settings(
        path.parent,
        bound,
        asked,
        holds="a run with other settings",
        remedy="use the same settings to go on with it, another run_dir, or resume='never' to discard it",
    )
