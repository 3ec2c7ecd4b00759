"""Cost of a layer on a device: seconds in each direction, from its shape and the size of the graph."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.planner.block_costs import BlockCosts
from gnnpipe.planner.hardware import REFERENCE, Rates
from gnnpipe.schedule.volume import LayerRows


@dataclass(frozen=True)
class LayerShape:
    """Sizes of a layer that its cost depends on."""

    in_features: int
    out_features: int
    width: int
    """Columns of the aggregated rows; 0 where nothing is aggregated."""
    num_weights: int
    """Numbers in its weights."""
    kind: str = "dense"
    """Key of `Rates.kinds`."""
    reads_features: bool = False
    """Whether the input rows are features, which need no gradient."""
    returns_gradient: bool = True
    """Whether gradients are aggregated too; False where the aggregated rows are features."""
    pushed: BlockCosts | None = None
    """Counts of a layer whose gradients are pushed; None for others."""
    gradient_width: int | None = None
    """Columns of the rows of gradients; None for as many as ``width``."""
    fp32: bool = False
    """Whether its tables are float32 whatever their format."""
    reverts: bool = False
    """Whether with one chunk it goes forward once more on the way back."""

    def rows(self, num_chunks: int) -> LayerRows:
        """Its rows that travel between parts; with one chunk some layers send theirs twice."""
        return LayerRows(
            self.width,
            self.returns_gradient,
            self.num_weights,
            self.gradient_width,
            self.pushed is not None,
            self.fp32,
            2 if self.reverts and num_chunks == 1 else 1,
        )


@dataclass(frozen=True)
class GraphSize:
    """Sizes of a graph that a layer's cost depends on."""

    num_nodes: int
    num_edges: int
    """Entries of the normalised adjacency."""
    sparse_entries: int | None = None
    """Non-zeros of the features; None if these are dense."""


@dataclass(frozen=True)
class LayerSeconds:
    """Seconds of a layer for the whole graph, over all its chunks."""

    forward: float
    backward: float
    """Seconds without those of `products`."""
    products: float
    """Seconds of the gradients of weights."""
    pull: float
    """Seconds of the aggregation; a part of `forward`."""
    pull_back: float
    """Seconds of the aggregation of gradients; a part of `backward`."""

    @property
    def total(self) -> float:
        """Seconds of both directions, with the gradients of weights."""
        return self.forward + self.backward + self.products


def layer_seconds(
    layer: LayerShape, graph: GraphSize, rates: Rates, num_chunks: int = 1, *, whole: bool = False
) -> LayerSeconds:
    """Seconds of a layer for the whole graph on one device.

    # forward    chunks start + rows entry + product + aggregation + dropout of sparse features
    # backward   the same with the rates backward; no product and aggregation if the input needs no gradient
    # products   product

    Args:
        layer: sizes of the layer.
        graph: sizes of the graph.
        rates: the device's.
        num_chunks: number of chunks, each of which costs a start.
        whole: whether the graph, or each part of it, is one chunk.
    """
    kind = rates.of(layer.kind)
    entry, entry_back = (kind.entry_whole, kind.entry_back_whole) if whole else (kind.entry, kind.entry_back)
    pull = graph.num_edges * layer.width * rates.edge(layer.kind)
    # numbers of the output rows, which elementwise work is counted in
    rows = rows_back = graph.num_nodes * layer.out_features
    product = graph.num_nodes * layer.num_weights * rates.multiply
    dropped = 0.0
    if layer.reads_features and graph.sparse_entries is not None:
        # a product with sparse features reads rows of weights as an aggregation reads rows of neighbours
        product = graph.sparse_entries * layer.out_features * rates.gather
        dropped = graph.sparse_entries * rates.sparse_entry
    elif layer.reads_features:
        # dropout goes over the features as well
        rows += graph.num_nodes * layer.in_features
    pull_back = graph.num_edges * layer.width * rates.edge_back(layer.kind) * layer.returns_gradient
    forward = num_chunks * kind.start + rows * entry + pull
    backward = num_chunks * kind.start_back + rows_back * entry_back + pull_back
    if layer.pushed is not None:
        # computed once forward; on the way back once more, and differentiated by rows and by weights
        counts = layer.pushed
        numbers = graph.num_nodes * counts.row_products + graph.num_edges * counts.edge_products
        product = numbers * rates.multiply
        return LayerSeconds(forward + product, backward + 3 * product, 0.0, pull, pull_back)
    back = product * (not layer.reads_features)
    return LayerSeconds(forward + product + dropped, backward + back, product, pull, pull_back)


def layer_cost(layer: LayerShape, graph: GraphSize, rates: Rates | None = None) -> float:
    """Seconds of a layer for the whole graph, forward and backward; by default on a reference machine."""
    return layer_seconds(layer, graph, rates or REFERENCE).total


def row_cost(hidden: int, rates: Rates = REFERENCE, kind: str = "dense") -> float:
    """Work of a row in a layer, forward and backward, in units of the work of an edge; balances chunks.

    Args:
        hidden: columns of the rows.
        rates: the devices'.
        kind: kind of layer, a key of `Rates.kinds`.
    """
    layer = rates.of(kind)
    # per column of a row: elementwise work both ways, and three products (forward, gradients of rows and of
    # weights); an edge is read once each way
    row = layer.entry + layer.entry_back + 3 * rates.multiply * hidden
    return row / (2 * rates.gather) if rates.gather else float(hidden)
