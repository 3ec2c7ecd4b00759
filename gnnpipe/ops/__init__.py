"""The few operations that a layer's speed depends on, behind one interface.

    pull         rows of a sparse matrix times a table of rows, perhaps mixed with other rows (GCNII)
    drop         rows with entries dropped by a hash of (key, node, column)
    drop_back    the gradient through dropout and the ReLU in front of it
    share        the other rows' share of that mix's gradient
    weigh        a table's gradients, weighted for later readers of this epoch and kept for the next
    ceilings     numbers that the largest values of rows don't exceed, for a safe softmax

The device of the tensors decides on the back end: Triton kernels on CUDA, if Triton is installed, and
PyTorch's own operations everywhere else. Both draw the same dropout masks bit for bit, and the same numbers
up to the order in which sums are added.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr
from gnnpipe.ops.hashing import HashedMask
from gnnpipe.ops.mix import Mix
from gnnpipe.ops.torch import TorchOps


class Ops(Protocol):
    """A back end."""

    hashes_ahead: bool
    """Whether to hash the random bytes of several layers at once and keep them until they are used."""
    entries_at_once: int
    """Number of entries that layers which make rows for each of them should work on at a time."""

    def pull(
        self, matrix: Csr, table: Tensor, add_to: Tensor | None = None, mix: Mix | None = None
    ) -> Tensor:
        """``matrix @ table``: reads every entry once and writes every output row once.

        Args:
            matrix: ``[n, m]``, float32 values.
            table: float32 or bf16 ``[m, width]``.
            add_to: float32 ``[n, width]`` that the product is added to in place; None for a new tensor.
            mix: what the sum is mixed with, if anything.

        Returns:
            float32 ``[n, width]``.
        """

    def drop(self, rows: Tensor, mask: HashedMask, out: Tensor) -> None:
        """Write ``rows`` ``[n, width]`` to another tensor ``out``: 0 where the mask drops, else scaled."""

    def drop_back(self, gradient: Tensor, dropped: Tensor, scale: float, out: Tensor) -> None:
        """Write ``scale * gradient`` where ``dropped > 0``, else 0; ``out`` may be ``gradient``."""

    def share(self, z_gradient: Tensor, h0_gradient: Tensor, alpha: float) -> None:
        """``h0_gradient += alpha * g``, in place, for an ``alpha`` below 1.

        Args:
            z_gradient: ``[n, width]``: ``(1 - alpha) * g``, where ``g`` is the gradient of the mix.
            h0_gradient: ``[n, width]``: gradient of the initial rows.
            alpha: share of the initial rows in the mix.
        """

    def weigh(self, rows: Tensor, previous: Tensor, fresh: float, corrected: float) -> None:
        """``rows, previous = fresh * rows - corrected * previous, rows``, in place."""

    def ceilings(self, values: Tensor, rowptr: Tensor) -> Tensor:
        """A number for each row that none of its values exceeds, and the largest one misses by 80 at most.

        Args:
            values: ``[num_values]``, those of a row beside each other.
            rowptr: int ``[num_rows + 1]``: where each row begins.

        Returns:
            ``[num_rows]``, -inf for a row without values; or one number for all, ``[1]``.
        """


@functools.lru_cache(maxsize=8)
def of(device: torch.device) -> Ops:
    """The back end for tensors on ``device``."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from gnnpipe.ops.triton import TritonOps  # needs Triton, which CPUs do without

        return TritonOps()
    return TorchOps()
