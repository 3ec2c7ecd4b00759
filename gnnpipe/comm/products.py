"""The arithmetic in which a rank multiplies rows with weights.

    fp32   operands as they are
    tf32   operands rounded to 11 significant bits; CUDA, from Ampere on
    bf16   operands rounded to 8 significant bits; CPUs with AMX

Rows, weights, sums and results are fp32 in all of them: the device rounds operands as it reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from gnnpipe.config.run import Compute
from gnnpipe.errors import ConfigError
from gnnpipe.system.cpu import cpu_flags
from gnnpipe.system.resources import SYSTEM

# PyTorch's names. It has newer settings, one for each library, but none before 2.9, and refuses a mix.
PRECISION: Mapping[Compute, str] = {"tf32": "high", "bf16": "medium"}

# With avx512_bf16 alone oneDNN takes the setting and multiplies in fp32 (docs/decisions.md).
NEEDED_FOR_BF16 = ("amx_tile", "amx_bf16")


@contextmanager
def computing(compute: Compute) -> Iterator[None]:
    """Multiply in this arithmetic until the context ends. PyTorch knows one setting for the whole process."""
    if compute == "fp32":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISION[compute])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def check_compute(compute: Compute, device: torch.device, root: Path = SYSTEM) -> None:
    """Refuse an arithmetic that this host is known not to have, without touching the device.

    Args:
        compute: what is asked for.
        device: device of the ranks.
        root: folder with ``proc``.

    Raises:
        ConfigError: the kind of device has no such products, or the CPU lacks instructions.
    """
    if compute == "tf32" and device.type == "cpu":
        raise ConfigError(
            "compute: tf32 is for CUDA devices, but the ranks of this run are on CPUs; use --compute fp32"
        )
    if compute != "bf16":
        return
    if device.type != "cpu":
        raise ConfigError(
            "compute: bf16 is for CPUs with AMX, but the ranks of this run are on CUDA devices; use "
            "--compute tf32"
        )
    missing = [flag for flag in NEEDED_FOR_BF16 if flag not in cpu_flags(root)]
    if missing:
        raise ConfigError(
            f"compute: bf16 needs a CPU with AMX, but this one lacks {' and '.join(missing)}, without which "
            "PyTorch multiplies in fp32 all the same; use --compute fp32, and --tables bf16 to save time"
        )


def check_effect(compute: Compute, device: torch.device) -> None:
    """Raise ConfigError as `check_compute` does, and if products on the device come out as in fp32 though
    fewer bits were asked for: a card may be too old, or an environment variable of a library forbid them.
    """
    check_compute(compute, device)
    if compute == "fp32":
        return
    exact = _some_product(device)
    with computing(compute):
        rounded = _some_product(device)
    # operands of 11 bits are 1e-4 off and more, another order of fp32 sums is 1e-6 off at most
    if (rounded - exact).norm() < 1e-5 * exact.norm():
        raise ConfigError(
            f"compute: {compute} changes nothing on this {device.type} device, which multiplies in fp32 all "
            "the same; use --compute fp32"
        )


def _some_product(device: torch.device) -> Tensor:
    """Random rows times a random weight, on the CPU: the same operands at each call."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(256, 128, generator=generator).to(device)
    weight = torch.randn(128, 128, generator=generator).to(device)
    return (rows @ weight).cpu()
