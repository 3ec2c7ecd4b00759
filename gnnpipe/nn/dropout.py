"""Dropout whose masks are a pure function of what is dropped, not of when or where it is computed."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TypeVar, overload

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.nn.features import SparseRows
from gnnpipe.ops.hashing import (
    KEY,
    MULTIPLY_1,
    MULTIPLY_2,
    NODE,
    HashedMask,
    column_groups,
    mixed,
)

R = TypeVar("R", bound=Tensor | SparseRows)


class Dropout(HashedMask):
    """Dropout of the rows of certain nodes at one layer; see `HashedMask` for which entries are dropped."""

    @overload
    def __call__(self, rows: Tensor) -> Tensor: ...

    @overload
    def __call__(self, rows: SparseRows) -> SparseRows: ...

    def __call__(self, rows: Tensor | SparseRows) -> Tensor | SparseRows:
        """Drop entries of ``[num_rows, width]`` rows, dense or sparse."""
        if self.threshold == 0 or rows.shape[0] == 0:
            return rows
        if isinstance(rows, SparseRows):
            return rows.with_value(rows.value * (self.keeps_at(rows.row, rows.col) * self.scale))
        if rows.requires_grad and torch.is_grad_enabled():
            return _Dropped.apply(rows, self)
        return _dropped(rows, self)

    def into(self, rows: Tensor, out: Tensor) -> None:
        """Write dropped rows to ``out``, which is not ``rows``; nothing is differentiated."""
        if self.threshold == 0 or rows.shape[0] == 0:
            out.copy_(rows)
        else:
            ops.of(rows.device).drop(rows, self, out)

    def without_bits(self) -> Dropout:
        """What the way back needs: nothing is kept of the hash."""
        return self if self.bits is None else replace(self, bits=None)

    def back(self, gradient: Tensor, dropped: Tensor, out: Tensor) -> None:
        """Write the gradient of *rows that came out of a ReLU* to ``out``, which may be ``gradient``.

        The mask is read off the dropped rows: an entry that is not positive was dropped, or was 0 before, and
        then the ReLU lets no gradient through anyway. So no mask is kept from forward to backward.
        """
        ops.of(gradient.device).drop_back(gradient, dropped, self.scale, out)


def _dropped(rows: Tensor, mask: HashedMask) -> Tensor:
    out = torch.empty_like(rows)
    ops.of(rows.device).drop(rows, mask, out)
    return out


class _Dropped(torch.autograd.Function):
    """The gradient is dropped as the rows are. Where random bytes are made ahead they are kept, one an
    entry."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, mask: HashedMask) -> Tensor:
        if ops.of(rows.device).hashes_ahead:
            mask = replace(mask, bits=mask.bytes_of(rows.shape[1]))
        ctx.mask = mask  # type: ignore[attr-defined]
        return _dropped(rows, mask)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return _dropped(grads[0].contiguous(), ctx.mask), None  # type: ignore[attr-defined]


class ChunkMasks:
    """Random bytes for consecutive layers of a chunk, hashed several layers at a time.

    A hash is a dozen operations, which take as long to start for one layer of a small chunk as for all.

    Args:
        node_id: int64 ``[num_rows]``, original ids.
        num_cols: columns of the rows that are dropped.
        keys: int64 ``[num_layers]`` beside the nodes, see `dropout_key`.
    """

    # Hashes of so many bytes stay in a core's cache.
    MOST_BYTES = 2**20

    def __init__(self, node_id: Tensor, num_cols: int, keys: Tensor) -> None:
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

    def _hash(self, keys: Tensor) -> Tensor:
        groups = column_groups(self._num_cols, self._node_id.device)
        cells = (self._node_id * NODE).unsqueeze(1) + groups
        hashed = mixed(keys.view(-1, 1, 1) + cells)
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
        key = ((key + number) * KEY + KEY) % 2**64
        key ^= key >> 30
        key = key * MULTIPLY_1 % 2**64
        key ^= key >> 27
        key = key * MULTIPLY_2 % 2**64
        key ^= key >> 31
    return key - 2**64 if key >= 2**63 else key


def keep_all(rows: R) -> R:
    """The dropout of evaluation: none."""
    return rows
