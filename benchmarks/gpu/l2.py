"""How fast a card reads its L2 cache."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from benchmarks.gpu.timing import milliseconds

BLOCK, REPEATS, PROGRAMS = 2048, 64, 8192


def l2_rate(device: torch.device, megabytes: int = 8) -> float:
    """Bytes a second that all multiprocessors together read from a buffer in the L2 cache."""
    buffer = torch.randn(megabytes * 2**18, device=device)
    out = torch.empty(PROGRAMS, device=device)

    def read() -> None:
        _read[(PROGRAMS,)](buffer, out, buffer.numel() // BLOCK, repeats=REPEATS, block=BLOCK, num_warps=4)

    return PROGRAMS * REPEATS * BLOCK * 4 / (1e-3 * milliseconds(read, device))


@triton.jit
def _read(buffer, out, blocks, repeats: tl.constexpr, block: tl.constexpr):
    """Add up blocks far apart, so that no program finds its next block in the L1 cache."""
    program = tl.program_id(0)
    total = tl.zeros([block], dtype=tl.float32)
    for step in range(repeats):
        at = ((program * 37 + step * 101) % blocks) * block
        total += tl.load(buffer + at + tl.arange(0, block))
    tl.store(out + program, tl.sum(total, axis=0))
