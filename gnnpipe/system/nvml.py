"""Memory of NVIDIA's cards, asked of the driver's management library (NVML).

PyTorch makes a CUDA context to answer, which takes half a gigabyte of the card for as long as the process
lives. The launcher of a run lives as long as the run.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

LIBRARY = "libnvidia-ml.so.1"
# Seconds that another process gets to import PyTorch and to ask the card.
SECONDS_TO_ASK = 120.0


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``: bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def free_cuda_bytes(index: int) -> int | None:
    """Free bytes of a CUDA device, without a context in this process; None if nobody can tell.

    Args:
        index: of the device among those that CUDA_VISIBLE_DEVICES leaves.
    """
    free = _ask_driver(index)
    return _ask_process(index) if free is None else free


def _ask_driver(index: int) -> int | None:
    """Ask NVML; None where it is absent, or does not know the device by its name."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    handle, memory = ctypes.c_void_p(), _Memory()
    if library.nvmlInit_v2():  # each call returns 0 for success
        return None
    try:
        named = _visible(index)
        if named.isdigit():
            failed = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(named)), ctypes.byref(handle))
        else:
            failed = library.nvmlDeviceGetHandleByUUID(ctypes.c_char_p(named.encode()), ctypes.byref(handle))
        if failed or library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            return None
        return int(memory.free)
    finally:
        library.nvmlShutdown()


def _visible(index: int) -> str:
    """Number or name of a device, as CUDA_VISIBLE_DEVICES gives it."""
    listed = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return listed[index] if index < len(listed) and listed[index] else str(index)


def _ask_process(index: int) -> int | None:
    """Ask PyTorch in a process of its own, whose context ends with it."""
    program = f"import torch; print(torch.cuda.mem_get_info({index})[0])"
    try:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ASK, check=True)
        return int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
