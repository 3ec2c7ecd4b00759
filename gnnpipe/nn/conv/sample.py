"""Small random graphs with all that graphs may have, for trying a convolution."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.blocks.edges import Edges

NUM_NODES = 50
CHUNKS = ((0, 18), (18, 45), (45, NUM_NODES))
# A node with far more edges than others, and one without any.
HUB, ALONE = 7, 13
LAST_CHUNK = CHUNKS[-1][0]


@dataclass(frozen=True)
class EdgeKinds:
    """Features and types of a graph's edges, by their numbers."""

    edge_dim: int = 0
    """Number of features of an edge."""
    num_types: int = 0
    """Number of types of edges, without that of self loops that are added; 0 if they have none."""


@dataclass(frozen=True)
class Sample:
    """A graph of `NUM_NODES` nodes; edges are sorted by target."""

    edge_index: Tensor
    """int64 ``[2, num_edges]``: source, target."""
    weight: Tensor
    """``[num_edges]``."""
    attr: Tensor | None
    """``[num_edges, edge_dim]``."""
    type: Tensor | None
    """int64 ``[num_edges]``."""
    num_types: int
    """Number of types; a self loop that is added has this number as its type."""

    @property
    def edges(self) -> Edges:
        """The edges as layers read them."""
        source, target = self.edge_index
        rowptr = torch.zeros(NUM_NODES + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(target, minlength=NUM_NODES), 0, out=rowptr[1:])
        return Edges(Csr(rowptr, source, self.weight, NUM_NODES), 0, self.attr, self.type)

    def picked(self, chosen: Tensor) -> Sample:
        """Some edges, in that order; ``chosen`` is a mask, or positions."""
        return Sample(
            self.edge_index[:, chosen],
            self.weight[chosen],
            None if self.attr is None else self.attr[chosen],
            None if self.type is None else self.type[chosen],
            self.num_types,
        )

    def to(self, dtype: torch.dtype) -> Sample:
        """The same graph with numbers of another format."""
        attr = None if self.attr is None else self.attr.to(dtype)
        return replace(self, weight=self.weight.to(dtype), attr=attr)

    def normalized(self, kind: Normalization) -> Sample:
        """The same graph as `gnnpipe.graph.prepare.normalize` prepares it; no loop is parallel to another."""
        if kind == "none":
            return self
        graph = self if kind == "mean" else self._with_loops()
        source, target = graph.edge_index
        if kind == "loops":
            return graph
        if kind == "mean":
            counts = torch.bincount(target, minlength=NUM_NODES)
            return replace(graph, weight=graph.weight / counts[target])
        scale = _sums(graph.weight, target).rsqrt()
        return replace(graph, weight=scale[target] * graph.weight * scale[source])

    def _with_loops(self) -> Sample:
        """Add a loop of weight 1, a type of its own and mean features for every node without one."""
        source, target = self.edge_index
        lacks = torch.ones(NUM_NODES, dtype=torch.bool)
        lacks[target[source == target]] = False
        new = lacks.nonzero().view(-1)
        attr, type_ = self.attr, self.type
        if attr is not None:
            counts = torch.bincount(target, minlength=NUM_NODES).clamp(min=1)
            attr = torch.cat([attr, (_sums(attr, target) / counts.unsqueeze(1))[new]])
        if type_ is not None:
            type_ = torch.cat([type_, type_.new_full((len(new),), self.num_types)])
        grown = Sample(
            torch.cat([self.edge_index, torch.stack([new, new])], dim=1),
            torch.cat([self.weight, self.weight.new_ones(len(new))]),
            attr,
            type_,
            self.num_types,
        )
        return grown.picked(torch.argsort(grown.edge_index[1], stable=True))


def sample(kinds: EdgeKinds, seed: int, *, last_is_quiet: bool = False) -> Sample:
    """A random graph: some self loops, some nodes without edges, a hub; parallel edges if they can differ.

    Args:
        kinds: what its edges have.
        seed: seeds it.
        last_is_quiet: whether no edge leads into the last chunk.
    """
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(NUM_NODES, (170,), generator=g)
    target[:24] = HUB
    source = torch.randint(NUM_NODES, target.shape, generator=g)
    if kinds.edge_dim or kinds.num_types:
        source[30:40], target[30:40] = source[40:50].clone(), target[40:50].clone()
    kept = (source != target) & (target % 9 != ALONE % 9) & (source != ALONE)
    loops = torch.arange(0, NUM_NODES, 6)
    source, target = torch.cat([source[kept], loops]), torch.cat([target[kept], loops])
    if last_is_quiet:
        source, target = source[target < LAST_CHUNK], target[target < LAST_CHUNK]
    key = target * NUM_NODES + source
    key = key.sort().values if kinds.edge_dim or kinds.num_types else key.unique()
    size = len(key)
    return Sample(
        torch.stack([key % NUM_NODES, key // NUM_NODES]),
        torch.rand(size, generator=g, dtype=torch.float64) + 0.2,
        torch.rand(size, kinds.edge_dim, generator=g, dtype=torch.float64) if kinds.edge_dim else None,
        torch.randint(kinds.num_types, (size,), generator=g) if kinds.num_types else None,
        kinds.num_types,
    )


def _sums(values: Tensor, target: Tensor) -> Tensor:
    """Sums of edges' values at their targets."""
    return values.new_zeros(NUM_NODES, *values.shape[1:]).index_add_(0, target, values)
