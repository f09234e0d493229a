"""What a result was made with: versions, hardware, memory."""

import importlib.metadata
import os
import platform
import resource
import sys
from typing import Any

PACKAGES = (
    "cliptd",
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "timm",
    "accelerate",
    "datasets",
)


def environment() -> dict[str, Any]:
    """Return versions, processor, accelerator and the largest memory that this process has used so far, in bytes."""
    import torch  # where versions alone are asked for there is no need of it

    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    memory: dict[str, int] = {"process_bytes": _largest_resident_set()}
    if torch.cuda.is_available():
        memory["gpu_bytes"] = torch.cuda.max_memory_allocated()
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
        },
        "peak_memory": memory,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _largest_resident_set() -> int:
    """Linux counts in kilobytes, macOS in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
