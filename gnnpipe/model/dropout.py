"""Dropout whose masks are a pure function of what is dropped, not of when or where it is computed."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnnpipe.model.features import SparseRows

# The two multipliers and three shifts of the finaliser of splitmix64 (Steele, Lea, Flood, "Fast splittable
# pseudorandom number generators", 2014), and the odd constants that spread its inputs. All are written as
# signed 64-bit numbers, as torch has no unsigned arithmetic.
_MULTIPLY_1, _MULTIPLY_2 = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_NODE, _GROUP, _KEY = -0x61C8864680B583EB, -0x4B47D0C5A1A6D0B1, 0x2545F4914F6CDD1D
_COLUMNS_PER_HASH = 8
_RESOLUTION = 256


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical right shift (torch's keeps the sign)."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mixed(z: Tensor) -> Tensor:
    """Splitmix64's finaliser, in place."""
    z ^= _shifted(z, 30)
    z *= _MULTIPLY_1
    z ^= _shifted(z, 27)
    z *= _MULTIPLY_2
    z ^= _shifted(z, 31)
    return z


@functools.lru_cache(maxsize=64)
def _column_groups(num_cols: int, device: torch.device) -> Tensor:
    return torch.arange(-(-num_cols // _COLUMNS_PER_HASH), device=device) * _GROUP


@dataclass(frozen=True)
class Dropout:
    """Dropout of the rows of certain nodes at one layer.

    The mask is a function of (key, node, column): 64 bits of an integer hash serve 8 columns, so an entry
    is dropped with a probability that is a multiple of 1/256, and the scale corrects for just that.
    """

    rate: float
    """Probability asked for, 0 to below 1."""
    key: int
    """Hash of (seed, epoch // hold, layer); see `dropout_key`."""
    node_id: Tensor
    """int64 ``[num_rows]``: *original* node ids, so that no numbering changes a mask."""
    bits: Tensor | None = None
    """The hash, if it has been computed already (`ChunkMasks`); uint8 ``[num_rows, width]``."""

    @property
    def threshold(self) -> int:
        """Bytes below this are dropped."""
        return round(self.rate * _RESOLUTION)

    @property
    def scale(self) -> float:
        """What kept entries are multiplied with."""
        return _RESOLUTION / (_RESOLUTION - self.threshold)

    def __call__(self, rows: Tensor | SparseRows) -> Tensor | SparseRows:
        """Drop entries of ``[num_rows, width]`` rows, dense or sparse."""
        if self.threshold == 0 or rows.shape[0] == 0:
            return rows
        if isinstance(rows, SparseRows):
            kept = self._keep_at(rows.row, rows.col) * self.scale
            return rows.with_value(rows.value * kept)
        return _Masked.apply(rows, self._bits(rows.shape[1]), self.threshold, self.scale)

    def into(self, rows: Tensor, out: Tensor) -> None:
        """Write dropped rows to ``out``, which is not ``rows``; nothing is differentiated."""
        if self.threshold == 0 or rows.shape[0] == 0:
            out.copy_(rows)
        else:
            _masked(rows, self._bits(rows.shape[1]), self.threshold, self.scale, out)

    def without_bits(self) -> Dropout:
        """What the way back needs: nothing is kept of the hash."""
        return self if self.bits is None else replace(self, bits=None)

    def back(self, gradient: Tensor, dropped: Tensor, out: Tensor) -> None:
        """Write the gradient of *rows that came out of a ReLU* to ``out``, which may be ``gradient``.

        The mask is read off the dropped rows: an entry that is not positive was dropped, or was 0 before, and
        then the ReLU lets no gradient through anyway. So no mask is kept from forward to backward.
        """
        torch.ops.aten.threshold_backward.grad_input(gradient, dropped, 0, grad_input=out)
        if self.threshold:
            out.mul_(self.scale)

    def _bits(self, num_cols: int) -> Tensor:
        """A random byte for each entry, uint8 ``[num_rows, num_cols]``."""
        if self.bits is not None:
            return self.bits
        groups = _column_groups(num_cols, self.node_id.device)
        hashed = _mixed((self.node_id * _NODE + self.key).unsqueeze(1) + groups)
        return hashed.view(torch.uint8)[:, :num_cols]

    def _keep_at(self, row: Tensor, col: Tensor) -> Tensor:
        """Which single entries are kept under the same mask, bool ``[num_entries]``."""
        col = col.to(torch.int64)
        hashed = _mixed((self.node_id * _NODE + self.key)[row] + (col // _COLUMNS_PER_HASH) * _GROUP)
        byte = (hashed >> (col % _COLUMNS_PER_HASH * 8)) & (_RESOLUTION - 1)
        return byte >= self.threshold


class _Masked(torch.autograd.Function):
    """``rows * (bits >= threshold) * scale``, keeping one byte an entry for the way back."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, rows: Tensor, bits: Tensor, threshold: int, scale: float
    ) -> Tensor:
        ctx.save_for_backward(bits)
        ctx.threshold, ctx.scale = threshold, scale  # type: ignore[attr-defined]
        return _masked(rows, bits, threshold, scale)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (bits,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return _masked(grads[0], bits, ctx.threshold, ctx.scale), None, None, None  # type: ignore[attr-defined]


def _masked(rows: Tensor, bits: Tensor, threshold: int, scale: float, out: Tensor | None = None) -> Tensor:
    """Compare straight into floats: PyTorch converts a bool mask to them several times slower."""
    mask = torch.empty_like(rows) if out is None else out
    torch.ge(bits, threshold, out=mask)
    return mask.mul_(rows).mul_(scale)


class ChunkMasks:
    """Random bytes for consecutive layers of a chunk, hashed several layers at a time.

    A hash is a dozen operations, which take as long to start for one layer of a small chunk as for all.

    Args:
        node_id: int64 ``[num_rows]``, original ids.
        num_cols: columns of the rows that are dropped.
        keys: of each layer, see `dropout_key`.
    """

    # Hashes of so many bytes stay in a core's cache.
    MOST_BYTES = 2**20

    def __init__(self, node_id: Tensor, num_cols: int, keys: list[int]) -> None:
        self._node_id, self._num_cols, self._keys = node_id, num_cols, keys
        self._batch = max(1, self.MOST_BYTES // max(1, node_id.numel() * num_cols))
        self._first = 0
        self._hashed: Tensor | None = None

    def bits(self, layer: int) -> Tensor:
        """uint8 ``[num_rows, num_cols]`` of a layer by its place in ``keys``; they are asked for in order."""
        if self._hashed is None or layer >= self._first + len(self._hashed):
            self._first = layer
            self._hashed = self._hash(self._keys[layer : layer + self._batch])
        return self._hashed[layer - self._first]

    def _hash(self, keys: list[int]) -> Tensor:
        groups = _column_groups(self._num_cols, self._node_id.device)
        cells = (self._node_id * _NODE).unsqueeze(1) + groups
        hashed = _mixed(torch.tensor(keys, device=cells.device).view(-1, 1, 1) + cells)
        return hashed.view(torch.uint8)[:, :, : self._num_cols]


@functools.lru_cache(maxsize=4096)
def dropout_key(seed: int, draw: int, layer: int) -> int:
    """Hash of the three numbers that tell one mask from another.

    Args:
        seed: the run's.
        draw: number of times masks were drawn before, ``epoch // dropout_hold``.
        layer: global number of the layer.

    Returns:
        a signed 64-bit number.
    """
    key = 0
    for number in (seed, draw, layer):
        key = ((key + number) * _KEY + _KEY) % 2**64
        key ^= key >> 30
        key = key * _MULTIPLY_1 % 2**64
        key ^= key >> 27
        key = key * _MULTIPLY_2 % 2**64
        key ^= key >> 31
    return key - 2**64 if key >= 2**63 else key


def keep_all(rows: Tensor | SparseRows) -> Tensor | SparseRows:
    """The dropout of evaluation: none."""
    return rows
