"""A driver of runners that gather, which does what the engine does, over tables and several chunks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layers.attention.attending import Attention, AttentionRunner
from gnnpipe.nn.running import WeightProduct


@dataclass(frozen=True)
class Network:
    """Edges of a graph; parallel ones stay apart."""

    num_nodes: int
    edge_index: Tensor
    """int64 ``[2, num_edges]``: sources and targets."""
    attr: Tensor | None = None
    """``[num_edges, edge_dim]``."""

    def edges(self, start: int, stop: int, *, back: bool = False) -> Edges:
        """Edges into some rows, or with ``back`` out of them."""
        source, target = self.edge_index.flip(0) if back else self.edge_index
        order = torch.from_numpy(np.lexsort((source, target)))
        order = order[(target[order] >= start) & (target[order] < stop)]
        counts = torch.bincount(target[order] - start, minlength=stop - start)
        rowptr = torch.cat([torch.zeros(1, dtype=torch.int32), counts.cumsum(0).int()])
        # values that a layer which read them would come out wrong with
        value = torch.full((len(order),), torch.nan)
        matrix = Csr(rowptr, source[order].int(), value, self.num_nodes)
        return Edges(matrix, start, None if self.attr is None else self.attr[order])


def network(num_nodes: int, num_edges: int, edge_dim: int = 0, seed: int = 0) -> Network:
    """Random edges, loops and parallel ones among them; the last node has none."""
    g = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(max(num_nodes - 1, 1), (2, num_edges), generator=g)
    attr = torch.randn(num_edges, edge_dim, generator=g, dtype=torch.float64) if edge_dim else None
    return Network(num_nodes, edge_index, attr)


@dataclass(frozen=True)
class Trained:
    """What comes out of a layer in both directions."""

    out: Tensor
    h_gradient: Tensor | None
    weights: dict[str, Tensor]


class Driver:
    """Runs a layer over a graph in chunks.

    Args:
        runner: runs the layer.
        graph: the edges.
        bounds: where chunks begin and end.
        order: their order.
        drop: dropout rate.
    """

    def __init__(
        self,
        runner: AttentionRunner,  # type: ignore[type-arg]
        graph: Network,
        bounds: list[int],
        order: list[int] | None = None,
        drop: float = 0.0,
    ) -> None:
        self.runner, self.graph = runner, graph
        self.spans = list(itertools.pairwise(bounds))
        self.order = list(range(len(self.spans))) if order is None else order
        self.products: list[WeightProduct] = []
        self.saved = []
        for start, stop in self.spans:
            rows = Dropout(drop, dropout_key(1, 2, 3), torch.arange(start, stop) + 7)
            self.saved.append(runner.saved(rows, self.products))
        self.edges = [graph.edges(*span) for span in self.spans]
        self.edges_back = [graph.edges(*span, back=True) for span in self.spans]

    def forward(self, h: FeatureRows) -> Tensor:
        layer, runner = self.runner.layer, self.runner
        dtype = next(layer.parameters()).dtype
        assert layer.width is not None
        self.table = torch.full((self.graph.num_nodes, layer.width), torch.nan, dtype=dtype)
        out = torch.empty(self.graph.num_nodes, layer.out_features, dtype=dtype)
        for chunk in self.order:
            start, stop = self.spans[chunk]
            rows = h[start:stop] if isinstance(h, Tensor) else h
            runner.forward_message(self.saved[chunk], rows, self.table[start:stop])
        for chunk in self.order:
            start, stop = self.spans[chunk]
            z = runner.gather(self.saved[chunk], self.edges[chunk], self.table)
            assert z.shape == (stop - start, runner.aggregated)
            runner.forward_update(self.saved[chunk], z, None, out[start:stop])
        return out

    def backward(self, gradient: Tensor, *, features: bool = False) -> Tensor | None:
        layer, runner = self.runner.layer, self.runner
        rows = torch.full((self.graph.num_nodes, runner.gradient_width), torch.nan, dtype=gradient.dtype)
        h_gradient = gradient.new_full((self.graph.num_nodes, layer.in_features), torch.nan)
        runner.make_room()
        for chunk in reversed(self.order):
            start, stop = self.spans[chunk]
            z_gradient = gradient.new_empty(stop - start, runner.aggregated)
            runner.backward_update(self.saved[chunk], gradient[start:stop].clone(), z_gradient, None)
            runner.gathered_gradient(
                self.saved[chunk], self.edges[chunk], self.table, z_gradient, rows[start:stop]
            )
        for chunk in reversed(self.order):
            start, stop = self.spans[chunk]
            x_gradient = runner.gather_back(
                self.saved[chunk], self.edges_back[chunk], rows, self.table[start:stop]
            )
            space = None if features else h_gradient[start:stop]
            runner.backward_message(self.saved[chunk], x_gradient, space)
        for product in self.products:
            product.add()
        self.products.clear()
        return None if features else h_gradient


def train(
    runner: AttentionRunner,  # type: ignore[type-arg]
    graph: Network,
    h: FeatureRows,
    gradient: Tensor,
    bounds: list[int] | None = None,
    order: list[int] | None = None,
    drop: float = 0.0,
    *,
    features: bool = False,
) -> Trained:
    """Forward and backward."""
    layer: Attention = runner.layer
    layer.zero_grad()
    driver = Driver(runner, graph, bounds or [0, graph.num_nodes], order, drop)
    with torch.no_grad():
        out = driver.forward(h)
        h_gradient = driver.backward(gradient, features=features)
    grads = {name: weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}
    assert grads.keys() == {name for name, _ in layer.named_parameters()}
    return Trained(out, h_gradient, grads)


def as_csr(rows: Tensor) -> Csr:
    """Sparse features."""
    return Csr.from_scipy(sp.csr_matrix(rows.numpy()))
