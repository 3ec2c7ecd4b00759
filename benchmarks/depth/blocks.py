"""GraphSAGE in pre-activation residual blocks, for depths at which the usual order does not train.

gnnpipe train --model benchmarks/depth/blocks.py:layers --layers 64 --model-options [norm=batch]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

import gnnpipe
from gnnpipe.nn.layer import Drop

NORMS = {"layer": nn.LayerNorm, "batch": gnnpipe.nn.BatchNorm}


class Block(gnnpipe.nn.Layer):
    """``h' = h + W [x, mean(x of neighbours)]``, ``x = dropout(ReLU(norm(h)))``.

    The order is that of DeepGCNs' "res+" block (arXiv 2006.07739): a row passes all blocks by an identity, so
    that its gradient reaches the first one however many there are.

    Args:
        hidden: columns of input and output.
        norm: batch or layer.
    """

    normalization = "mean"

    def __init__(self, hidden: int, norm: str) -> None:
        super().__init__()
        self.in_features = self.out_features = self.width = hidden
        self.norm = NORMS[norm](hidden)
        self.own, self.neighbours = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden, bias=False)

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """Normalise, activate and drop; hand over the node's own term."""
        x = drop(F.relu(self.norm(h)))
        return x, h + self.own(x)

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        """Add what the neighbours' mean makes."""
        return carry + self.neighbours(z)


def layers(
    num_features: int, num_classes: int, hidden: int = 64, depth: int = 16, norm: str = "layer"
) -> Iterator[Callable[[], nn.Module]]:
    """The layers, for ``--model``."""
    yield lambda: gnnpipe.nn.Rows(nn.Linear(num_features, hidden))
    for _ in range(depth):
        yield lambda: Block(hidden, norm)
    yield lambda: gnnpipe.nn.Rows(NORMS[norm](hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
