"""What a run shows while it goes: a tracker through accelerate, and a progress line."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from cliptd.training.config import TrainingConfig


def require_tracker(config: TrainingConfig) -> None:
    """Refuse a tracker whose package is missing, before any work is done."""
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
    )  # drop what is done again
    accelerator.init_trackers(run_dir.resolve().name, config=flat, init_kwargs={config.track: options})


def track(accelerator: Accelerator, row: dict[str, Any]) -> None:
    """Send one row of the log to the tracker, metrics under their own names."""
    values = {name: value for name, value in row.items() if name not in ("step", "metrics")}
    accelerator.log(values | row.get("metrics", {}), step=row["step"])


class ProgressLine:
    """A bar with loss and steps per second on a terminal, else a line every tenth of the run."""

    def __init__(self, first_step: int, steps: int, *, shown: bool):
        self.steps = steps
        self.bar = None
        self.prints = shown and not sys.stderr.isatty()
        if shown and not self.prints:
            self.bar = tqdm(total=steps, initial=first_step, unit="step", desc="training", dynamic_ncols=True)

    def update(self, row: dict[str, Any]) -> None:
        """Report one row of the log."""
        step, metrics = row["step"], row.get("metrics", {})
        note = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix_str(f"loss {row['loss']:.4f}", refresh=False)
            if note:
                self.bar.write(f"step {step}: {note}", file=sys.stderr)
        elif self.prints and (note or step % max(1, self.steps // 10) == 0):
            line = f"step {step}/{self.steps}  loss {row['loss']:.4f}  {note}".rstrip()
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
