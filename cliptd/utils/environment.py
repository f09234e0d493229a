"""Versions, hardware and memory: the environment that a result was made in."""

import os
import platform
import resource
import sys
from typing import Any

from cliptd.utils.versions import library_versions


def environment() -> dict[str, Any]:
    """Return versions, processor, accelerator and the largest memory that this process has used so far, in bytes."""
    import torch  # only here, as it is slow to import

    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    memory: dict[str, int] = {"process_bytes": _largest_resident_set()}
    if torch.cuda.is_available():
        memory["gpu_bytes"] = torch.cuda.max_memory_allocated()
    return {
        "versions": library_versions(),
        "hardware": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
        },
        "peak_memory": memory,
    }


def _largest_resident_set() -> int:
    """Return bytes. Linux counts in kilobytes, macOS in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
