"""The steps that a layer's speed depends on, behind one small face.

    pull         rows of a sparse matrix times a table of rows
    drop         rows with entries dropped by a hash of (key, node, column)
    drop_back    the gradient through dropout and the ReLU in front of it
    mix          aggregated rows mixed with the initial ones
    share        what the initial rows get of the gradient of that mix
    weigh        gradients of a table for this epoch's later readers and for the next epoch's

The device of the tensors decides which back end takes them: PyTorch's own operations, or on CUDA the Triton
kernels, if Triton is installed. Both give the same numbers but for the order in which a sum is added up, and
the same dropout masks bit for bit.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr
from gnnpipe.ops.hashing import HashedMask
from gnnpipe.ops.torch import TorchOps


class Ops(Protocol):
    """A back end."""

    hashes_ahead: bool
    """Whether random bytes are worth making for several layers at once, and keeping until they are used."""

    def pull(self, matrix: Csr, table: Tensor, add_to: Tensor | None = None) -> Tensor:
        """``matrix @ table``: every entry is read once, every output row written once.

        Args:
            matrix: ``[n, m]``, float32 values.
            table: float32 or bf16 ``[m, width]``.
            add_to: float32 ``[n, width]``, to which the product is added in place.

        Returns:
            float32 ``[n, width]``.
        """

    def drop(self, rows: Tensor, mask: HashedMask, out: Tensor) -> None:
        """Write ``rows`` ``[n, width]`` to ``out``, which is another tensor: 0 where the mask drops, else
        scaled."""

    def drop_back(self, gradient: Tensor, dropped: Tensor, scale: float, out: Tensor) -> None:
        """Write ``scale * gradient`` where ``dropped > 0``, else 0; ``out`` may be ``gradient``."""

    def mix(self, z: Tensor, h0: Tensor, alpha: float) -> None:
        """``z = (1 - alpha) * z + alpha * h0``, in place; both ``[n, width]``."""

    def share(self, z_gradient: Tensor, h0_gradient: Tensor, alpha: float) -> None:
        """``h0_gradient += alpha * g``, in place, for an ``alpha`` below 1.

        Args:
            z_gradient: ``(1 - alpha) * g``, where ``g`` is the gradient of what `mix` made.
            h0_gradient: of the initial rows; both are ``[n, width]``.
            alpha: as for `mix`.
        """

    def weigh(self, rows: Tensor, previous: Tensor, fresh: float, corrected: float) -> None:
        """``rows, previous = fresh * rows - corrected * previous, rows``, in place."""


@functools.lru_cache(maxsize=8)
def of(device: torch.device) -> Ops:
    """The back end for tensors on ``device``."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from gnnpipe.ops.triton import TritonOps  # needs Triton, which CPUs do without

        return TritonOps()
    return TorchOps()
