"""The CPU's name and instruction sets, as Linux tells them."""

from __future__ import annotations

import platform
from pathlib import Path

from gnnpipe.system.resources import SYSTEM


def cpu_name(root: Path = SYSTEM) -> str:
    """Name of the CPU.

    Args:
        root: folder with ``proc``.
    """
    return _of_first_core("model name", root) or platform.processor() or platform.machine()


def cpu_flags(root: Path = SYSTEM) -> frozenset[str]:
    """Instruction sets of the CPU by Linux's names, such as ``avx512_bf16``; empty where it doesn't tell.

    Args:
        root: folder with ``proc``.
    """
    return frozenset(_of_first_core("flags", root).split())


def _of_first_core(key: str, root: Path) -> str:
    """A value of /proc/cpuinfo; empty where there is none."""
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    # model name	: AMD EPYC
    found = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in found if name.strip() == key), "")
