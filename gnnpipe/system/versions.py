"""Versions and hardware, for the summary of a run."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

import gnnpipe
from gnnpipe.system.cpu import cpu_name
from gnnpipe.system.resources import cores, total_memory


def versions() -> dict[str, str]:
    """Versions of the packages that decide a run's numbers and speed."""
    packages = ("torch", "torch-geometric", "numpy", "scipy")
    return {
        "gnnpipe": gnnpipe.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def hardware(device: torch.device, num_ranks: int) -> dict[str, str | int]:
    """The device and CPU, the cores and memory that the run was allotted, and its ranks and threads."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": cpu_name(),
        "cores": cores(),
        "memory_bytes": total_memory(),
        "ranks": num_ranks,
        "threads_per_rank": torch.get_num_threads(),
    }
