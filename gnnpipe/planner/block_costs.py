"""Work and memory of a layer of any kind, counted on small random blocks.

A `BlockLayer` may compute anything on rows and on edges, and nothing but running it tells how much. What is
counted are multiplications and saved numbers, not seconds: predictions, and so plans, must not change from
one start to the next.

    # block            rows   edges   referenced      difference to the first
    # first             32      64        40
    # more rows         48      64        40          16 rows
    # more edges        32     128        40          64 edges
    # more referenced   32      64        72          32 referenced rows
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import BlockEdges

BLOCKS = ((32, 64, 40), (48, 64, 40), (32, 128, 40), (32, 64, 72))
# Rows that a tile reads for each of its own; with the usual cut, most of a row's neighbours are near it.
REFERENCED = 2.0


@dataclass(frozen=True)
class BlockCosts:
    """Counts of a layer, forward."""

    row_products: float
    """Multiplications in products of matrices, for each row."""
    edge_products: float
    """The same for each edge."""
    row_saved: float
    """Numbers that autograd keeps while the layer is differentiated, for each row."""
    edge_saved: float
    """The same for each edge."""


def block_costs(layer: BlockLayer, edge_dim: int = 0, *, types: bool = False) -> BlockCosts:
    """Count.

    Args:
        layer: with numbers in its weights.
        edge_dim: number of edge features.
        types: whether edges have types.
    """
    try:
        counts = [_counted(layer, *sizes, edge_dim, types=types) for sizes in BLOCKS]
    except ZeroDivisionError:
        # A layer may have wishes that random numbers don't fulfil. It is a prediction: as if it were linear.
        numbers = sum(weight.numel() for weight in layer.parameters())
        return BlockCosts(numbers, 0.0, 4.0 * layer.width, 2.0 * layer.width)
    (first, *_), each = counts, []
    for index, count in enumerate(counts[1:]):
        more = BLOCKS[index + 1][index] - BLOCKS[0][index]
        each.append([(a - b) / more for a, b in zip(count, first, strict=True)])
    row, edge, referenced = each
    return BlockCosts(
        row[0] + REFERENCED * referenced[0], edge[0], row[1] + REFERENCED * referenced[1], edge[1]
    )


def _counted(
    layer: BlockLayer, rows: int, edges: int, referenced: int, edge_dim: int, *, types: bool
) -> tuple[float, float]:
    """Multiplications and saved numbers of one block."""
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(edges) * rows // edges
    source = torch.randint(referenced, (edges,), generator=generator)
    block = BlockEdges(
        torch.arange(referenced),
        torch.stack([source, target]),
        torch.searchsorted(target, torch.arange(rows + 1)),
        torch.ones(edges),
        torch.rand(edges, edge_dim, generator=generator) if edge_dim else None,
        torch.zeros(edges, dtype=torch.int64) if types else None,
        start=0,
    )
    read, own = (
        torch.rand(number, layer.width, generator=generator).requires_grad_() for number in (referenced, rows)
    )
    saved: dict[int, int] = {}
    weights = {weight.data_ptr() for weight in layer.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.random.fork_rng([]), torch.no_grad():
        # a convolution finds its form at its first call, by autograd
        layer.combine(read, own, block)
    counter = FlopCounterMode(display=False)
    with torch.random.fork_rng([]), torch.enable_grad(), counter:
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = layer.combine(read, own, block)
    del out
    return counter.get_total_flops() / 2, sum(saved.values()) / 4
