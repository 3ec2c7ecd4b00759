"""Random bytes that are a pure function of (key, node, column): the masks of dropout."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

# One hash gives the bytes of 8 neighbouring columns of a row:
#     mixed(node * NODE + key + (column // 8) * GROUP)  ->  byte 0 | byte 1 | ... | byte 7
#     an entry is dropped where its byte is below the threshold
# The two multipliers, and the three shifts of `mixed`, are those of the finaliser of splitmix64 (Steele, Lea,
# Flood, "Fast splittable pseudorandom number generators", 2014). The other constants are odd and spread its
# inputs; KEY does so for the parts of a key. All are signed 64-bit numbers, as torch has no unsigned ones.
MULTIPLY_1, MULTIPLY_2 = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
NODE, GROUP, KEY = -0x61C8864680B583EB, -0x4B47D0C5A1A6D0B1, 0x2545F4914F6CDD1D
COLUMNS_PER_HASH = 8
RESOLUTION = 256


@dataclass(frozen=True)
class HashedMask:
    """The dropout mask of some nodes' rows, as a rule rather than as stored bits.

    Each entry has a byte of randomness, so the probability of dropping it is a multiple of 1/256. The scale
    is that of this probability.
    """

    rate: float
    """Probability asked for, 0 to below 1."""
    key: int
    """Signed 64-bit hash of (seed, epoch // hold, layer)."""
    node_id: Tensor
    """int64 ``[num_rows]``: *original* node ids, so that no numbering changes a mask."""
    bits: Tensor | None = None
    """The bytes, uint8 ``[num_rows, width]``, if they have been made already."""
    key_on_device: Tensor | None = None
    """``key`` as int64 ``[1]`` beside the nodes, where kernels read it: so that a recorded CUDA graph finds
    this epoch's."""

    @property
    def threshold(self) -> int:
        """Bytes below this are dropped."""
        return round(self.rate * RESOLUTION)

    @property
    def scale(self) -> float:
        """Factor of kept entries, which keeps the mean of a row's entries."""
        return RESOLUTION / (RESOLUTION - self.threshold)

    @property
    def _salt(self) -> int | Tensor:
        """The key, from the device if it is there: a recorded CUDA graph would repeat the host's number."""
        return self.key if self.key_on_device is None else self.key_on_device

    def bytes_of(self, num_cols: int) -> Tensor:
        """A random byte for each entry, uint8 ``[num_rows, num_cols]``."""
        if self.bits is not None and self.bits.shape[1] == num_cols:
            return self.bits
        groups = column_groups(num_cols, self.node_id.device)
        hashed = mixed((self.node_id * NODE + self._salt).unsqueeze(1) + groups)
        return hashed.view(torch.uint8)[:, :num_cols]

    def keeps_at(self, row: Tensor, col: Tensor) -> Tensor:
        """Whether single entries ``(row, col)`` are kept by the same mask, bool ``[num_entries]``."""
        col = col.to(torch.int64)
        hashed = mixed((self.node_id * NODE + self._salt)[row] + (col // COLUMNS_PER_HASH) * GROUP)
        byte = (hashed >> (col % COLUMNS_PER_HASH * 8)) & (RESOLUTION - 1)
        return byte >= self.threshold


def mixed(z: Tensor) -> Tensor:
    """Splitmix64's finaliser of int64 numbers, in place."""
    z ^= _shifted(z, 30)
    z *= MULTIPLY_1
    z ^= _shifted(z, 27)
    z *= MULTIPLY_2
    z ^= _shifted(z, 31)
    return z


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical right shift (torch's keeps the sign)."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


@functools.lru_cache(maxsize=64)
def column_groups(num_cols: int, device: torch.device) -> Tensor:
    """Term of each group of 8 columns in a hash's input, int64 ``[num_groups]``."""
    return torch.arange(-(-num_cols // COLUMNS_PER_HASH), device=device) * GROUP
