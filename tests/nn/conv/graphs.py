"""Random graphs for convolutions, made without the package's own samples, and layers run chunk by chunk."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_remaining_self_loops

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import Edges

NUM_NODES = 30


@dataclass(frozen=True)
class Plain:
    """Edges as torch_geometric takes them, sorted by target."""

    edge_index: Tensor
    edge_weight: Tensor
    edge_attr: Tensor
    edge_type: Tensor

    @property
    def edges(self) -> Edges:
        """The same for the package."""
        rowptr = torch.zeros(NUM_NODES + 1, dtype=torch.int64)
        rowptr[1:] = torch.bincount(self.edge_index[1], minlength=NUM_NODES).cumsum(0)
        matrix = Csr(rowptr, self.edge_index[0], self.edge_weight, NUM_NODES)
        return Edges(matrix, 0, self.edge_attr, self.edge_type)

    def run(self, conv: nn.Module, x: Tensor) -> Tensor:
        """Call a module of torch_geometric on the whole graph."""
        takes = inspect.signature(conv.forward).parameters
        extras = ("edge_weight", "edge_attr", "edge_type")
        return conv(x, self.edge_index, **{name: getattr(self, name) for name in extras if name in takes})


def plain_graph(seed: int, edge_dim: int, num_types: int, kind: Normalization = "none") -> Plain:
    """Some 100 edges, self loops and parallel ones among them, and nodes without any."""
    g = torch.Generator().manual_seed(seed)
    ends = torch.randint(NUM_NODES, (2, 100), generator=g)
    ends = ends[:, (ends[1] % 7 != 3) & (ends[0] != ends[1])]
    loops = torch.arange(NUM_NODES)[torch.rand(NUM_NODES, generator=g) < 0.2]
    ends = torch.cat([ends, ends[:, :8], torch.stack([loops, loops])], dim=1)
    size = ends.shape[1]
    weight = torch.rand(size, generator=g, dtype=torch.float64) + 0.1
    attr = torch.rand(size, edge_dim, generator=g, dtype=torch.float64)
    types = torch.randint(num_types, (size,), generator=g)
    if kind != "none":
        given = ends
        _, attr = add_remaining_self_loops(given, attr, "mean", NUM_NODES)
        _, types = add_remaining_self_loops(given, types, 0, NUM_NODES)
        ends, weight = (
            gcn_norm(given, weight, NUM_NODES, dtype=torch.float64)
            if kind == "gcn"
            else add_remaining_self_loops(given, weight, 1.0, NUM_NODES)
        )
    order = torch.argsort(ends[1] * NUM_NODES + ends[0], stable=True)
    return Plain(ends[:, order], weight[order], attr[order], types[order])


def in_chunks(layer: BlockLayer, x: Tensor, edges: Edges, cuts: Sequence[int]) -> Tensor:
    """Output rows of a layer, computed chunk by chunk.

    Args:
        layer: the layer.
        x: prepared rows of all nodes.
        edges: edges into all nodes.
        cuts: first rows of all chunks but the first.
    """
    spans = itertools.pairwise([0, *cuts, NUM_NODES])
    blocks = [(edges.rows(*span).block, slice(*span)) for span in spans]
    return torch.cat([layer.combine(x[block.referenced], x[own], block) for block, own in blocks])


def results(module: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    """Output rows, and gradients of the input rows and of all weights, for a random gradient."""
    x = x.clone().requires_grad_()
    out = run(x)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=out.dtype)
    leaves = [x, *(weight for weight in module.parameters() if weight.requires_grad)]
    found = torch.autograd.grad(out, leaves, direction, allow_unused=True)
    gradients = [torch.zeros_like(a) if b is None else b for a, b in zip(leaves, found, strict=True)]
    return [out.detach(), *gradients]
