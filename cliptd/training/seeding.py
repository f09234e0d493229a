"""Random numbers as pure functions of the place in a run, so that no state is saved or restored."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from cliptd.utils.seeds import derive_seed


def seed_generators(*parts: int | str, devices: bool = True) -> None:
    """Seed the global generators of Python, numpy and torch from `parts`.

    Args:
        parts: see `derive_seed`.
        devices: seed the generators of accelerators too. The loader's processes need the CPU's only.
    """
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (the global one, which augmentations draw from)
    if devices and torch.accelerator.is_available():
        torch.manual_seed(seed)  # slow without an accelerator, as it keeps a traceback for a later one
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def deterministic_kernels(enabled: bool) -> Iterator[None]:
    """Let torch refuse operations without a deterministic kernel in the block, and restore the former mode after."""
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it before its first call
    former = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(former)
        torch.backends.cudnn.benchmark = benchmark
