"""Peak memory of this process, and memory that is free on the host or device."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable

import torch
from torch import Tensor

from gnnpipe.system.device import finish
from gnnpipe.system.nvml import free_cuda_bytes
from gnnpipe.system.resources import available_memory


def peak_memory_bytes(device: torch.device) -> int:
    """Peak of this process: resident memory on a CPU, allocated memory on a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # bytes on macOS, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory_bytes(device: torch.device) -> int | None:
    """Memory that all new processes of this host may take together, or one process on a CUDA device; None
    where a device does not tell. No CUDA context is made."""
    if device.type == "cuda":
        return free_cuda_bytes(device.index or 0)
    return available_memory()


def host_like(tensor: Tensor) -> Tensor:
    """Host memory for a copy of a tensor; pinned where that is on CUDA, as only such copies run beside the
    host's work."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


def copy_to_host(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Copy each tensor into host memory of `host_like`, and wait for all copies together.

    Args:
        pairs: sources and targets; targets of tensors on CUDA must be pinned.
    """
    devices = set()
    for source, target in pairs:
        target.copy_(source, non_blocking=True)
        devices.add(source.device)
    for device in devices:
        finish(device)
