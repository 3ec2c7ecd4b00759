"""The operations of a layer in PyTorch: for CPUs, and for CUDA without Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr
from gnnpipe.ops.hashing import HashedMask
from gnnpipe.ops.mix import Mix

# looked up once: each step of the name is a function
THRESHOLD_BACKWARD = torch.ops.aten.threshold_backward.grad_input


class TorchOps:
    """Back end of PyTorch's own operations."""

    hashes_ahead = True
    entries_at_once = 1024  # of 128 columns: half a core's own cache

    def pull(
        self, matrix: Csr, table: Tensor, add_to: Tensor | None = None, mix: Mix | None = None
    ) -> Tensor:
        """Pull by an embedding bag with weights, PyTorch's fastest form on a CPU.

        It is called below its Python function, with checks that take as long as a small chunk.
        """
        by_frequency, mode_sum, sparse_gradient, last_offset = False, 0, False, True
        value = matrix.value_as(table.dtype)
        product: Tensor = torch.embedding_bag(
            table, matrix.col, matrix.rowptr, by_frequency, mode_sum, sparse_gradient, value, last_offset
        )[0]
        product = product.float() if table.dtype == torch.bfloat16 else product
        product = product if add_to is None else add_to.add_(product)
        return product if mix is None else product.lerp_(mix.rows, mix.alpha)

    def drop(self, rows: Tensor, mask: HashedMask, out: Tensor) -> None:
        """Compare straight into floats: converting a bool mask to them is several times slower."""
        if out.dtype != torch.float32:
            out.copy_(masked(rows, mask.bytes_of(rows.shape[1]), mask.threshold, mask.scale))
        else:
            masked(rows, mask.bytes_of(rows.shape[1]), mask.threshold, mask.scale, out)

    def drop_back(self, gradient: Tensor, dropped: Tensor, scale: float, out: Tensor) -> None:
        """The backward of a ReLU, scaled."""
        THRESHOLD_BACKWARD(gradient, dropped, 0, grad_input=out)
        if scale != 1.0:
            out.mul_(scale)

    def share(self, z_gradient: Tensor, h0_gradient: Tensor, alpha: float) -> None:
        """In one pass."""
        h0_gradient.add_(z_gradient, alpha=alpha / (1.0 - alpha))

    def weigh(self, rows: Tensor, previous: Tensor, fresh: float, corrected: float) -> None:
        """In four passes over the rows."""
        gradient = rows.clone()
        rows.mul_(fresh).sub_(previous, alpha=corrected)
        previous.copy_(gradient)

    def ceilings(self, values: Tensor, rowptr: Tensor) -> Tensor:
        """The largest of all values where that will do: finding the largest of each row takes as long as
        half of a pull."""
        if values.numel() == 0:
            return values.new_zeros(1)
        least, most = values.aminmax()
        if bool(most - least < SAFE_RANGE):
            return most.view(1)
        return torch.segment_reduce(values, "max", offsets=rowptr)


# Largest distance of a value from its ceiling: exp(-80) = 2e-35 is still a normal float32.
SAFE_RANGE = 80.0


def masked(rows: Tensor, bits: Tensor, threshold: int, scale: float, out: Tensor | None = None) -> Tensor:
    """``rows * (bits >= threshold) * scale``."""
    # ge writes 0 and 1 in the format of rows, without a bool tensor in between
    mask = torch.empty_like(rows) if out is None else out
    torch.ge(bits, threshold, out=mask)
    return mask.mul_(rows).mul_(scale)
