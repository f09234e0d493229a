"""The training loop, whose results do not depend on kills, the number of processes or accumulation."""

import math
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from cliptd.data.map_style import MapStyle
from cliptd.training.acceleration import (
    check_accelerator,
    make_accelerator,
    refuse_coupled_accumulation,
    restored,
)
from cliptd.training.best import (
    Progress,
    best_path,
    drop_other_best,
    evaluate_model,
    is_evaluated,
    keep_if_best,
)
from cliptd.training.checkpoint import (
    drop_other_checkpoints,
    load_checkpoint,
    load_weights,
    newest_checkpoint,
    save_checkpoint,
)
from cliptd.training.config import TrainingConfig, refuse_other_config, resolved
from cliptd.training.log import StepLog, read_log
from cliptd.training.losses import loss_of, not_finite, terms_of
from cliptd.training.optimizer import make_optimizer, set_learning_rate
from cliptd.training.sampler import MicroBatches
from cliptd.training.seeding import deterministic_kernels, seed_generators
from cliptd.training.tracking import ProgressLine, start_tracker, track
from cliptd.utils.run_folder import remember_settings
from cliptd.utils.stopping import Stopped, stop_request


@dataclass
class TrainingResult:
    """The result of a run. `best_step` is 0 and `best_metrics` is empty if nothing was evaluated."""

    best_step: int
    best_metrics: dict[str, float]
    steps: int
    """The number of steps made, which is lower than configured after an early stop."""
    history: list[dict[str, Any]] = field(repr=False)
    """The rows of log.jsonl: step, loss, lr, grad_norm, and "metrics" if the step was evaluated."""


def train(
    model: nn.Module,
    dataset: MapStyle[Any],
    collate: Callable[[list[Any]], dict[str, Any]],
    config: TrainingConfig,
    *,
    run_dir: str | Path,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    parameter_groups: Iterable[dict[str, Any]] | None = None,
    accelerator: Accelerator | None = None,
    settings: dict[str, Any] | None = None,
    description: str = "training",
    metric_names: Mapping[str, str] | None = None,
) -> TrainingResult:
    """Train `model` in place and leave the best weights (by `config.metric`) in it, in eval mode.

    After a kill at any moment, the same call goes on from the newest complete checkpoint in `run_dir` and ends with the
    same weights. `run_dir`/log.jsonl holds the loss of every step, which is the mean over the batch of all processes.
    At Ctrl-C and SIGTERM all processes finish the step and save it first.

    Args:
        model: called as `model(**batch)`. Its output has a scalar `loss`, an attribute or a key, which is the mean over
            the examples of the call. Scalars in the model's `last_terms` are logged too, if it has that attribute.
        dataset: map-style, with `len(dataset)` and `dataset[i]`.
        collate: makes the keyword arguments of a call, a dict, of a list of examples. Tensors in the dict are moved to
            the device.
        config: the settings.
        run_dir: a folder that all processes see.
        evaluate: returns the metrics of the model, which is in eval mode, without gradients, on the training device.
            All processes call it, so they may share the work. The main process's metrics count.
        parameter_groups: torch parameter groups. None: matrices with weight decay, vectors without.
        accelerator: from `make_accelerator`. None: one is made here.
        settings: everything else that defines the run (task, student, distillation), as JSON values. They are written
            to config.json and compared like the configuration when a run is resumed.
        description: the label of the progress bar.
        metric_names: the labels of the metrics in the progress bar, by their keys. Other metrics are not shown there.
            None: all, by their keys.

    Raises:
        Stopped: Ctrl-C or SIGTERM. The same call goes on from the step that the message names.
        ValueError: the run folder holds another run, the batch size is not divisible, accumulation is asked for with an
            objective that couples the batch, the metric is missing, or the output has no loss.
        FloatingPointError: the loss or the gradient is not finite. The message names the step and the samples.
    """
    run_dir = Path(run_dir)
    given = accelerator
    accelerator = make_accelerator(config, run_dir) if given is None else check_accelerator(given, config)
    processes, rank, is_main = (
        accelerator.num_processes,
        accelerator.process_index,
        accelerator.is_main_process,
    )
    accumulation = config.accumulation(processes)
    refuse_coupled_accumulation(model, config, processes)
    batches = MicroBatches(
        dataset,
        collate,
        seed=config.seed,
        micro_batch_size=config.batch_size // processes // accumulation,
        accumulation=accumulation,
        rank=rank,
        processes=processes,
    )

    # Refuse the run folder of another run. Every process checks it before the main one writes.
    precision = accelerator.mixed_precision
    identity = resolved(
        config, mixed_precision=precision, dataset_length=len(dataset), settings=settings or {}
    )
    if config.resume == "auto":
        refuse_other_config(run_dir / "config.json", identity)
    accelerator.wait_for_everyone()
    if is_main:
        run_dir.mkdir(parents=True, exist_ok=True)
        if config.resume == "never":
            _discard_run(run_dir)
        remember_settings(run_dir / "config.json", identity)
    accelerator.wait_for_everyone()

    log = StepLog(run_dir / "log.jsonl")
    progress, first_step = Progress(), 0
    with restored(model), deterministic_kernels(config.deterministic), stop_request() as request:
        optimizer = make_optimizer(model, config, parameter_groups)
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        prepared, stepper = accelerator.prepare(model, optimizer)
        checkpoint = newest_checkpoint(run_dir)
        if checkpoint is not None:
            first_step, state = load_checkpoint(checkpoint, model, optimizer)
            progress = Progress(**state)
        if accelerator.scaler is not None:  # an accelerator may have served another run
            fresh = torch.amp.GradScaler(accelerator.device.type).state_dict()
            accelerator.scaler.load_state_dict(progress.scaler or fresh)
        accelerator.wait_for_everyone()
        if is_main:
            log.keep_until(first_step)
            if checkpoint is not None:  # finish what the kill interrupted
                drop_other_checkpoints(checkpoint)
                drop_other_best(run_dir, progress.best_step)
        start_tracker(accelerator, config, identity, run_dir, first_step)
        line = ProgressLine(
            description, first_step, config.steps, metric_names, shown=is_main, finished=progress.finished
        )

        step, stopped = first_step, False
        last_step = first_step if progress.finished else config.steps
        on_gpu = accelerator.device.type == "cuda"
        stream = iter(
            batches.loader(first_step, last_step, num_workers=config.num_workers, pin_memory=on_gpu)
        )
        model.train()
        while step < last_step and not progress.finished and not stopped:
            learning_rate = set_learning_rate(optimizer, config.learning_rate_factor(step))
            totals: dict[str, Tensor] = {}
            for micro in range(accumulation):
                batch = send_to_device(dict(next(stream)), accelerator.device, non_blocking=True)
                seed_generators(config.seed, "forward", step, micro, rank)
                synchronises = micro == accumulation - 1
                with nullcontext() if synchronises else accelerator.no_sync(prepared):
                    loss = loss_of(prepared(**batch))
                    accelerator.backward(loss / accumulation)
                for name, value in {"loss": loss.detach(), **terms_of(model, loss)}.items():
                    totals[name] = totals.get(name, 0.0) + value.float() / accumulation
            norm = accelerator.clip_grad_norm_(trained, config.clip_norm or math.inf)
            # All processes stop at the same step: each knows only its own signals.
            totals["stop"] = torch.tensor(float(request.number > 0), device=loss.device)
            means = accelerator.reduce(torch.stack(list(totals.values())), reduction="mean")
            *means, norm = torch.cat([means, norm.detach().to(means).reshape(1)]).tolist()
            stopped = means.pop() > 0
            del totals["stop"]
            losses = dict(zip(totals, means, strict=True))
            # The float16 scaler itself skips a step whose gradient overflowed.
            if not math.isfinite(losses["loss"]) or not (math.isfinite(norm) or accelerator.scaler):
                raise FloatingPointError(not_finite(losses["loss"], norm, step, batches))
            stepper.step()
            stepper.zero_grad()
            step += 1

            row = {"step": step, **losses, "lr": learning_rate, "grad_norm": norm}
            if evaluate is not None and is_evaluated(step, config):
                row["metrics"] = evaluate_model(evaluate, model, config, step)
                keep_if_best(row["metrics"], step, progress, model, config, run_dir, writes=is_main)
            stops = config.patience > 0 and progress.evaluations_without_gain >= config.patience
            progress.finished = stops or step == config.steps
            if is_main:
                log.write(row)
            track(accelerator, row)
            line.update(row)

            if progress.finished or stopped or (config.save_every > 0 and step % config.save_every == 0):
                progress.scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
                if is_main:
                    log.flush_to_disk()
                    save_checkpoint(run_dir, step, model, optimizer, asdict(progress))
                    drop_other_best(run_dir, progress.best_step)
                accelerator.wait_for_everyone()
        del stream  # ends the loader's processes

    line.close()
    log.close()
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers = []  # the next run with this accelerator has its own
    accelerator.wait_for_everyone()
    if stopped and not progress.finished:
        raise Stopped(request.number or signal.SIGTERM, f"at step {step} of {config.steps}")
    if progress.best_step:
        load_weights(best_path(run_dir, progress.best_step), model)
    model.eval()
    if given is None:
        accelerator.free_memory()
    return TrainingResult(progress.best_step, progress.best_metrics, step, read_log(run_dir / "log.jsonl"))


def _discard_run(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
    (run_dir / "log.jsonl").unlink(missing_ok=True)
    drop_other_best(run_dir, None)
