"""Safetensors files that are either whole or absent."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from cliptd.utils.files import whole_file


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file. Tensors that share memory (tied weights) are written once for each name.

    Raises:
        ValueError: a value is not a tensor.
    """
    contents, seen = {}, set()
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"the state {name!r} is a {type(tensor).__name__}, expected a tensor; remove it from the state"
            )
        tensor = tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage().data_ptr()
        contents[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    with whole_file(path) as partial:
        save_file(contents, partial, metadata)
