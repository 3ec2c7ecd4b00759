"""Checks of a prepared graph's file that somebody else may have made, or a disk have damaged.

Products read rows by the numbers in the file without looking at them again: a number out of range would read
or write memory outside of the arrays.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from gnnpipe.files.reading import parse_json
from gnnpipe.files.typed_json import from_object
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.prepare.prepared import GraphFacts, PreparedGraph

# Entries that are checked at once.
BLOCK = 1 << 22


def check_prepared(path: Path) -> None:
    """Check that a file holds a prepared graph, with numbers of rows that exist; raises ValueError."""
    try:
        graph = PreparedGraph.load(path)
        from_object(GraphFacts, parse_json(json.dumps(asdict(graph.facts))))
    except ValueError:
        raise
    except Exception as error:  # other keys, types and shapes than ours fail in many ways
        raise ValueError(f"it holds no prepared graph ({type(error).__name__}: {error})") from None
    _check_sizes(graph)
    for name, matrix in (
        ("matrix", graph.matrix),
        ("matrix_t", graph.matrix_t),
        ("features", graph.features),
    ):
        if isinstance(matrix, Csr):
            _check_matrix(name, matrix)
    num_nodes = graph.facts.num_nodes
    _check_ids("node_id", graph.node_id, num_nodes)
    for name, halo in (("halo_forward", graph.halo_forward), ("halo_backward", graph.halo_backward)):
        for rows in halo:
            _check_ids(name, rows, num_nodes)
    if graph.entry_t is not None:
        _check_ids("entry_t", graph.entry_t, graph.matrix.num_entries)
    if graph.edge_type is not None:
        _check_ids("edge_type", graph.edge_type, graph.facts.num_edge_types + 1)  # of added loops


def _check_sizes(graph: PreparedGraph) -> None:
    """Compare the shapes of all arrays with the facts."""
    facts, num_nodes = graph.facts, graph.facts.num_nodes
    features = graph.features
    width = features.num_cols if isinstance(features, Csr) else features.shape[-1]
    rows = features.num_rows if isinstance(features, Csr) else features.shape[0]
    stop, part_nodes = 0, []
    for chunks in graph.ranges:
        part_nodes.append(chunks[-1].stop - chunks[0].start)
        for chunk in chunks:
            if chunk.start != stop or chunk.stop < stop:
                raise ValueError("its ranges are not in order")
            stop = chunk.stop
    sizes = {
        "matrix": (graph.matrix.num_rows, graph.matrix.num_cols) == (num_nodes, num_nodes),
        "matrix_t": (graph.matrix_t.num_rows, graph.matrix_t.num_cols) == (num_nodes, num_nodes),
        "features": (rows, width) == (num_nodes, facts.num_features),
        "labels": graph.labels.shape[:1] == (num_nodes,),
        "node_id": graph.node_id.shape == (num_nodes,),
        "masks": all(
            mask.shape == (num_nodes,) and mask.dtype == torch.bool for mask in graph.masks.values()
        ),
        "ranges": stop == num_nodes and part_nodes == facts.part_nodes,
        **_sizes_of_edges(graph),
        "chunk_edges": graph.chunk_edges.shape == (2, len(graph.ranges[0]), len(graph.ranges[0])),
    }
    for name, fits in sizes.items():
        if not fits:
            raise ValueError(f"the size of its {name} is not that of its facts")


def _sizes_of_edges(graph: PreparedGraph) -> dict[str, bool]:
    """Whether the shapes of what edges have fit, by name."""
    num_entries, sizes = graph.matrix.num_entries, {}
    if graph.edge_attr is not None:
        fits = graph.edge_attr.shape == (num_entries, graph.facts.edge_dim)
        sizes["edge_attr"] = fits and graph.edge_attr.dtype == torch.float32
    for name, rows in (("edge_type", graph.edge_type), ("entry_t", graph.entry_t)):
        if rows is not None:
            sizes[name] = rows.shape == (num_entries,) and rows.dtype == torch.int64
    return sizes


def _check_matrix(name: str, matrix: Csr) -> None:
    """Check that rows follow each other and columns exist."""
    rowptr = matrix.rowptr
    sizes = matrix.value.shape == matrix.col.shape and rowptr.dim() == matrix.col.dim() == 1
    if not sizes or rowptr[0] != 0 or rowptr[-1] != matrix.num_entries:
        raise ValueError(f"the rows of its {name} don't cover its entries")
    if bool((rowptr[1:] < rowptr[:-1]).any()):
        raise ValueError(f"the rows of its {name} are not in order")
    _check_ids(name, matrix.col, matrix.num_cols)


def _check_ids(name: str, ids: Tensor, limit: int) -> None:
    """Check that all ids are in ``[0, limit)``; ids that are mapped from disk are read block by block."""
    if ids.is_floating_point():
        raise ValueError(f"its {name} holds no whole numbers")
    for block in ids.split(BLOCK):
        if block.numel():
            least, most = torch.aminmax(block)
            if int(least) < 0 or int(most) >= limit:
                raise ValueError(f"its {name} names row {int(most)} of {limit}")
