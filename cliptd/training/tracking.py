"""The progress of a run: a tracker through accelerate, and a progress line."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from cliptd.training.config import TrainingConfig


def require_tracker(config: TrainingConfig) -> None:
    """Refuse a tracker whose package is missing, before any work is done. Raises ImportError."""
    if config.track and importlib.util.find_spec(config.track) is None:
        raise ImportError(f"track={config.track!r} needs a package: pip install {config.track}")


def start_tracker(
    accelerator: Accelerator,
    config: TrainingConfig,
    identity: dict[str, Any],
    run_dir: Path,
    first_step: int,
) -> None:
    """Open the configured tracker under the run folder's name."""
    if config.track is None:
        return
    flat = {
        key: value if isinstance(value, int | float | str) else str(value) for key, value in identity.items()
    }
    options = (
        {"purge_step": first_step + 1} if config.track == "tensorboard" else {}
    )  # the steps after it are repeated
    accelerator.init_trackers(run_dir.resolve().name, config=flat, init_kwargs={config.track: options})


def track(accelerator: Accelerator, row: dict[str, Any]) -> None:
    """Send one row of the log to the tracker, with the metrics under their own names."""
    values = {name: value for name, value in row.items() if name not in ("step", "metrics")}
    accelerator.log(values | row.get("metrics", {}), step=row["step"])


class ProgressLine:
    """A bar with loss and steps per second on a terminal, or else a line after every tenth of the run.

    Args:
        description: the label of the run, such as "[2/2 targeted]".
        first_step: the number of steps that were done before.
        steps: the number of steps of the whole run.
        metric_names: the labels of the metrics to show, by their keys. None: all, by their keys.
        shown: false on processes that show nothing.
        finished: true if the run has nothing left to do.
    """

    def __init__(
        self,
        description: str,
        first_step: int,
        steps: int,
        metric_names: Mapping[str, str] | None,
        *,
        shown: bool,
        finished: bool,
    ) -> None:
        self.description, self.steps, self.metric_names = description, steps, metric_names
        self.bar: tqdm | None = None
        if shown and finished:
            print(f"{description}: finished before, at step {first_step}", file=sys.stderr, flush=True)
        elif shown and first_step:
            print(f"{description}: goes on from step {first_step} of {steps}", file=sys.stderr, flush=True)
        self.prints = shown and not finished and not sys.stderr.isatty()
        if shown and not finished and not self.prints:
            self.bar = tqdm(
                total=steps, initial=first_step, unit="step", desc=description, dynamic_ncols=True
            )

    def update(self, row: dict[str, Any]) -> None:
        """Report one row of the log."""
        step, metrics = row["step"], row.get("metrics", {})
        names = dict(zip(metrics, metrics, strict=True)) if self.metric_names is None else self.metric_names
        note = "  ".join(f"{name} {metrics[key]:.4g}" for key, name in names.items() if key in metrics)
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix_str(f"loss {row['loss']:.4f}", refresh=False)
            if note:
                self.bar.write(f"{self.description} step {step}: {note}", file=sys.stderr)
        elif self.prints and (note or step % max(1, self.steps // 10) == 0):
            line = f"{self.description} step {step}/{self.steps}  loss {row['loss']:.4f}  {note}".rstrip()
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
