"""GraphSAGE in the pre-activation blocks of ResGCN+: a deep model whose norm works row by row.

    gnnpipe train --model benchmarks/tuned/blocks.py:layers --layers 12 --hidden 64

Behind the aggregation, as in ``norm(conv(x) + skip(x))``, a LayerNorm trains badly at this depth. In front of
it the sum of all layers stays as it is, from the first to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

import gnnpipe


class SageBlock(gnnpipe.nn.Layer):
    """``h' = h + x W_self + mean(x of neighbours) W_neighbour + b``, ``x = dropout(ReLU(norm(h)))``.

    The block is that of DeeperGCN (arXiv 2006.07739), the convolution GraphSAGE's (arXiv 1706.02216). Shapes:
    ``[n, hidden] -> [n, hidden]``.
    """

    cost_kind, normalization = "sage", "mean"

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.width = self.in_features = self.out_features = hidden
        self.norm = nn.LayerNorm(hidden)
        self.own = nn.Linear(hidden, hidden)
        self.neighbour = nn.Linear(hidden, hidden, bias=False)

    def message(self, h: Tensor, drop: gnnpipe.nn.Drop) -> tuple[Tensor, Tensor]:
        """The rows that neighbours read; the residual and the node's own term are handed over."""
        x = drop(F.relu(self.norm(h)))
        return x, h + self.own(x)

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        """Add the neighbours' term."""
        return carry + self.neighbour(z)


def layers(
    num_features: int, num_classes: int, hidden: int = 64, depth: int = 12
) -> Iterator[Callable[[], nn.Module]]:
    """A dense layer, blocks, and a dense layer behind one more norm."""
    yield lambda: gnnpipe.nn.Rows(nn.Linear(num_features, hidden))
    for _ in range(depth):
        yield lambda: SageBlock(hidden)
    yield lambda: gnnpipe.nn.Rows(nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
