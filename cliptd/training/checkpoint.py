"""Checkpoints that are complete or absent, made of safetensors and JSON only.

A checkpoint is written into a temporary folder and flushed, its completion marker last. Then the folder is renamed, and
only then the checkpoint before it is deleted. A process that is killed at any moment leaves the newest complete one.

    run_dir/checkpoints/step-00000200/{model.safetensors, optimizer.safetensors, state.json, COMPLETE}
    run_dir/best-00000150.safetensors        weights of the best evaluation so far; the state names it
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cliptd.utils.files import flush_to_disk
from cliptd.utils.tensor_files import save_tensors

MARKER = "COMPLETE"


def save_checkpoint(
    run_dir: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Path:
    """Write the checkpoint of `step` finished steps, delete the older ones, and return its folder.

    Args:
        state: the rest of the run's state, as JSON values.
    """
    parent = run_dir / "checkpoints"
    parent.mkdir(parents=True, exist_ok=True)
    partial = parent / f"partial-{step:08d}"
    final = parent / f"step-{step:08d}"
    for leftover in (partial, final):  # a complete `final` would have been resumed
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    tensors, scalars = optimizer_to_tensors(model, optimizer)
    save_tensors(partial / "model.safetensors", model.state_dict())
    save_tensors(partial / "optimizer.safetensors", tensors)
    text = json.dumps({"step": step, "optimizer": scalars, **state}, indent=1)
    (partial / "state.json").write_text(text, encoding="utf-8")
    flush_to_disk(partial / "state.json")
    sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
    (partial / MARKER).write_text(json.dumps(sizes), encoding="utf-8")
    flush_to_disk(partial / MARKER)
    flush_to_disk(partial)
    partial.rename(final)
    flush_to_disk(parent)
    drop_other_checkpoints(final)
    return final


def drop_other_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a run except this complete one, also half-written and half-deleted ones."""
    for other in [*folder.parent.glob("step-*"), *folder.parent.glob("partial-*")]:
        if other != folder:
            shutil.rmtree(other)


def newest_checkpoint(run_dir: Path) -> Path | None:
    """Return the newest complete checkpoint, which has a marker and files of the sizes that the marker states."""
    folders = sorted((run_dir / "checkpoints").glob("step-*"), reverse=True)
    return next((folder for folder in folders if _is_complete(folder)), None)


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, Any]]:
    """Restore weights and optimizer state, and return the finished steps and the `state` of `save_checkpoint`.

    Raises:
        ValueError: the checkpoint is of another model or optimizer, or its files are damaged.
    """
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    load_weights(folder / "model.safetensors", model)
    tensors = _read(folder / "optimizer.safetensors")
    try:
        tensors_to_optimizer(model, optimizer, tensors, state.pop("optimizer"))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{folder}: the optimizer state is of other parameters ({error}); "
            "use the same model and parameter_groups"
        ) from error
    return state.pop("step"), state


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's state_dict as one file, whole or not at all."""
    save_tensors(path, model.state_dict())


def load_weights(path: Path, model: nn.Module) -> None:
    """Load weights that `save_weights` or `save_checkpoint` wrote.

    Raises:
        ValueError: the file is damaged or the model has other parameters.
    """
    try:
        model.load_state_dict(_read(path))
    except RuntimeError as error:
        raise ValueError(f"{path} holds the weights of another model: {error}") from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); delete its folder or use resume='never'"
        ) from error


def optimizer_to_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Return the state by parameter name: tensors as "<parameter>:<entry>", and the rest as JSON values.

    Learning rates and other group settings are not in it, since they follow from the configuration and the step.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for parameter, entries in optimizer.state.items():
        name = names[id(parameter)]
        scalars[name] = {key: value for key, value in entries.items() if not isinstance(value, Tensor)}
        tensors |= {f"{name}:{key}": value for key, value in entries.items() if isinstance(value, Tensor)}
    return tensors, scalars


def tensors_to_optimizer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    scalars: dict[str, dict[str, Any]],
) -> None:
    """Restore the state that `optimizer_to_tensors` returned, with the optimizer's own load_state_dict.

    Raises KeyError or ValueError for a parameter that the optimizer does not have.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    unknown = sorted(scalars.keys() - set(order))
    if unknown:
        raise ValueError(f"it has {unknown[0]!r}, the optimizer does not")
    entries = {name: dict(values) for name, values in scalars.items()}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition(":")
        entries[name][entry] = tensor
    numbers = {name: number for number, name in enumerate(order)}
    packed = {numbers[name]: values for name, values in entries.items()}
    optimizer.load_state_dict({"state": packed, "param_groups": optimizer.state_dict()["param_groups"]})
