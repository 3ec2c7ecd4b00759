"""The number of nodes of a source, which all its parts must agree on."""

from __future__ import annotations

from collections.abc import Iterator

from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.folder.edges import MOST_NODES, largest_id
from gnnpipe.graph.pieces import NO_NODES
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.splits import MASKS


def count_nodes(raw: RawGraph) -> tuple[int, tuple[str, ...]]:
    """The number of nodes that all parts of the source agree on, and notes; raises DataError."""
    counts = dict(_node_counts(raw))
    notes: tuple[str, ...] = ()
    if counts:
        first = next(iter(counts))
        num_nodes = counts[first]
        other = next((what for what, count in counts.items() if count != num_nodes), None)
        if other is not None:
            raise DataError(
                f"{other}: there are {counts[other]:,} nodes, and {num_nodes:,} by {first}; give each node a "
                "row in all of them"
            )
    else:
        num_nodes = largest_id(raw) + 1
        notes = (f"nodes: {num_nodes:,}, by the largest id of an edge, as nothing else says how many",)
    if num_nodes < 1:
        raise DataError(NO_NODES)
    if num_nodes > MOST_NODES:
        raise DataError(f"nodes: {num_nodes:,} are more than can be numbered; the most is {MOST_NODES:,}")
    return num_nodes, notes


def _node_counts(raw: RawGraph) -> Iterator[tuple[str, int]]:
    """Each part of the source that says how many nodes there are."""
    if raw.num_nodes is not None:
        yield "num_nodes", raw.num_nodes
    if isinstance(raw.edge_index, Csr):
        yield "edges", raw.edge_index.num_rows
    for what, part in (("features", raw.features), ("labels", raw.labels)):
        if part is not None:
            yield what, part.shape[0]
    for name, mask in zip(MASKS, raw.masks or (), strict=False):
        yield name, mask.shape[0]
    if raw.ids is not None:
        yield "ids", len(raw.ids)
