"""How much memory this process took at most, and how much the host has left."""

from __future__ import annotations

import resource
import sys

import torch

from gnnpipe.system.resources import available_memory


def peak_memory_bytes(device: torch.device) -> int:
    """Peak of this process: resident memory on a CPU, allocated memory on a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory_bytes(device: torch.device) -> int:
    """Memory that new processes may take together on this host, or one process on a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()
