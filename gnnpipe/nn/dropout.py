"""Dropout whose masks are a pure function of the entries that are dropped.

A mask is a hash of (seed, draw, layer, original node id, column), so it is the same under every plan, on
whichever rank and in whichever chunk or tile an entry is computed.
"""

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
    """Dropout of certain nodes' rows at one layer; `HashedMask` says which entries are dropped."""

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
        """Write dropped rows to ``out``, another tensor than ``rows``; autograd sees nothing of it."""
        if self.threshold == 0 or rows.shape[0] == 0:
            out.copy_(rows)
        else:
            ops.of(rows.device).drop(rows, self, out)

    def without_bits(self) -> Dropout:
        """The same dropout without its random bytes, to be kept for the way back."""
        if self.bits is None:
            return self
        # as `replace` does it, in a fifth of its time
        bare = object.__new__(Dropout)
        vars(bare).update(vars(self), bits=None)
        return bare

    def back(self, gradient: Tensor, dropped: Tensor, out: Tensor) -> None:
        """Differentiate dropout of rows that came out of a ReLU, and that ReLU with it.

        The mask is read off the dropped rows ``d``, so that none is kept from forward to backward:

            d > 0     kept and behind the ReLU's positive side: gradient * scale
            d = 0     dropped, or 0 before, where the ReLU lets no gradient through: 0 either way

        Args:
            gradient: gradient of the dropped rows, ``[n, width]``.
            dropped: the dropped rows.
            out: tensor to write the gradient of the ReLU's input to; it may be ``gradient``.
        """
        ops.of(gradient.device).drop_back(gradient, dropped, self.scale, out)


def _dropped(rows: Tensor, mask: HashedMask) -> Tensor:
    out = torch.empty_like(rows)
    ops.of(rows.device).drop(rows, mask, out)
    return out


class _Dropped(torch.autograd.Function):
    """Dropout for autograd: the gradient is dropped as the rows are. Backends that hash ahead keep the random
    bytes for it, one an entry; the others hash again."""

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

    A hash is a dozen operations. On a small chunk most of their time is the start, which several layers at a
    time share.

        # hashed    uint8 [layers of a batch, num_rows, num_cols]; the next batch replaces it when asked for

    Args:
        node_id: int64 ``[num_rows]``: original ids.
        num_cols: columns of the rows that are dropped.
        keys: int64 ``[num_layers]`` on the device of the ids, see `dropout_key`.
    """

    # Random bytes of a batch of layers: they stay in a core's cache until they are used.
    MOST_BYTES = 2**20

    def __init__(self, node_id: Tensor, num_cols: int, keys: Tensor) -> None:
        self._node_id, self._num_cols, self._keys = node_id, num_cols, keys
        self._batch = max(1, self.MOST_BYTES // max(1, node_id.numel() * num_cols))
        self._first = 0
        self._hashed: Tensor | None = None

    def bits(self, layer: int) -> Tensor:
        """Random bytes of a layer, uint8 ``[num_rows, num_cols]``; layers must be asked for in order.

        Args:
            layer: index of the layer in ``keys``.
        """
        if self._hashed is None or layer >= self._first + len(self._hashed):
            self._first = layer
            self._hashed = self._hash(self._keys[layer : layer + self._batch])
        return self._hashed[layer - self._first]

    def _hash(self, keys: Tensor) -> Tensor:
        # one 64-bit hash makes the bytes of eight columns
        groups = column_groups(self._num_cols, self._node_id.device)
        cells = (self._node_id * NODE).unsqueeze(1) + groups
        hashed = mixed(keys.view(-1, 1, 1) + cells)
        return hashed.view(torch.uint8)[:, :, : self._num_cols]


@functools.lru_cache(maxsize=4096)
def dropout_key(seed: int, draw: int, layer: int) -> int:
    """Hash of the three numbers that tell one layer's mask from another's.

    Args:
        seed: seed of the run.
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
