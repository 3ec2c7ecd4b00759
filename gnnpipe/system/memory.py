"""Peak memory of this process, and memory that is free on the host or device."""

from __future__ import annotations

import resource
import sys

import torch

from gnnpipe.system.resources import available_memory


def peak_memory_bytes(device: torch.device) -> int:
    """Peak of this process: resident memory on a CPU, allocated memory on a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # bytes on macOS, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory_bytes(device: torch.device) -> int:
    """Memory that all new processes of this host may take together, or one process on a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()
