"""What a layer costs on a device: seconds of each direction, from its shape and the size of the graph."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.planner.hardware import REFERENCE, Rates


@dataclass(frozen=True)
class LayerShape:
    """What a layer's cost depends on."""

    in_features: int
    out_features: int
    width: int
    """Columns of the aggregated rows; 0 where nothing is aggregated."""
    num_weights: int
    kind: str = "dense"
    """Key of `Rates.kinds`."""
    reads_features: bool = False
    """Whether the input rows are features, which want no gradient."""
    returns_gradient: bool = True
    """Whether gradients are aggregated too; not where features themselves are."""


@dataclass(frozen=True)
class GraphSize:
    """What a layer's cost depends on besides."""

    num_nodes: int
    num_edges: int
    """Entries of the normalised adjacency."""
    sparse_entries: int | None = None
    """Non-zeros of the features, if they are sparse."""


@dataclass(frozen=True)
class LayerSeconds:
    """Of a layer for a whole graph that comes in so many chunks."""

    forward: float
    backward: float
    products: float
    """Gradients of weights."""
    pull: float
    """Of `forward`, the aggregation."""
    pull_back: float
    """Of `backward`, likewise."""

    @property
    def total(self) -> float:
        """Both directions."""
        return self.forward + self.backward + self.products


def layer_seconds(
    layer: LayerShape, graph: GraphSize, rates: Rates, num_chunks: int = 1, *, whole: bool = False
) -> LayerSeconds:
    """Seconds of a layer for the whole graph on one device.

    Args:
        layer: its shape.
        graph: its size.
        rates: of the device.
        num_chunks: each of them costs a start.
        whole: whether the graph, or each part of it, is one chunk.
    """
    kind = rates.kinds.get(layer.kind) or rates.kinds["dense"]
    entry, entry_back = (kind.entry_whole, kind.entry_back_whole) if whole else (kind.entry, kind.entry_back)
    pull = graph.num_edges * layer.width * rates.gather
    rows = rows_back = graph.num_nodes * layer.out_features
    product = graph.num_nodes * layer.num_weights * rates.multiply
    dropped = 0.0
    if layer.reads_features and graph.sparse_entries is not None:
        product = graph.sparse_entries * layer.out_features * rates.gather
        dropped = graph.sparse_entries * rates.sparse_entry
    elif layer.reads_features:
        rows += graph.num_nodes * layer.in_features
    pull_back = pull if layer.returns_gradient else 0.0
    return LayerSeconds(
        num_chunks * kind.start + rows * entry + product + pull + dropped,
        num_chunks * kind.start_back
        + rows_back * entry_back
        + product * (not layer.reads_features)
        + pull_back,
        product,
        pull,
        pull_back,
    )


def layer_cost(layer: LayerShape, graph: GraphSize, rates: Rates | None = None) -> float:
    """Forward and backward of a layer for the whole graph, in seconds; by default of a reference machine."""
    return layer_seconds(layer, graph, rates or REFERENCE).total


def row_cost(hidden: int, rates: Rates = REFERENCE, kind: str = "dense") -> float:
    """A row's work in a layer, forward and backward, in units of an edge's; chunks are balanced by it.

    Args:
        hidden: width of the rows.
        rates: of the devices.
        kind: of layer, as in `Rates.kinds`.
    """
    layer = rates.kinds.get(kind) or rates.kinds["dense"]
    row = layer.entry + layer.entry_back + 3 * rates.multiply * hidden
    return row / (2 * rates.gather) if rates.gather else float(hidden)
