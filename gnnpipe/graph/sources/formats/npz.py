"""Graphs in one npz file.

gnn-benchmark (Amazon, Coauthor, CitationFull)   ``adj_*``, ``attr_*``, ``labels``
scipy.sparse.save_npz                            one matrix: edges only
heterophilous-graphs, City-Networks, OGB, own    arrays under the usual names (`named`)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from gnnpipe.errors import DataError, shown
from gnnpipe.files.mapped import ArrayArchive, map_arrays
from gnnpipe.graph.sources.formats.named import (
    Arrays,
    as_array,
    graph_of_names,
    has_edges,
    labels_of,
    sparse_edges,
)
from gnnpipe.graph.sources.formats.sparse import compressed, is_scipy, read_scipy
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.system.steps import Say

LOOKS_FOR = (
    "an npz file with edge_index, edges, row and col, or adj_data; or a matrix of scipy.sparse.save_npz"
)


def read(path: Path, scratch: Path, say: Say) -> RawGraph:
    """The graph of an npz file in any of the layouts.

    Raises:
        DataError, OSError, ValueError: the file can't be read, or its arrays make no graph.
    """
    with map_arrays(path, scratch) as file:
        if "adj_data" in file:
            say(f"{path.name}: npz file of gnn-benchmark (adj_*, attr_*, labels)")
            return _benchmark(file, path.name)
        if is_scipy(file):
            say(f"{path.name}: sparse matrix of SciPy, rows are sources")
            return matrix_graph(read_scipy(file, path.name), path.name)
        if has_edges(file):
            say(f"{path.name}: npz file ({shown(', '.join(file))})")
            return graph_of_names(file, path.name, _objects(file, path.name))
        there = shown(", ".join((*file, *_objects(file, path.name))) or "nothing")
        raise DataError(f"{path.name}: it holds {there}; needed is {LOOKS_FOR}")


def read_as_torch_geometric(path: Path, scratch: Path) -> RawGraph:
    """Amazon, Coauthor and CitationFull as torch_geometric's classes make them of their files.

    Features become 0 or 1, self loops and weights are left out, and every edge gets its reverse. Features
    stay sparse: those of Coauthor Physics have 1.1 million non-zeros, and take 1.16 GB when dense.
    """
    with map_arrays(path, scratch) as file:
        edges, weight = sparse_edges(compressed(file, "adj_", path.name))
        features = compressed(file, "attr_", path.name)
        labels, class_names = _labels(file)
    notes = [] if weight is None else [weights_note(f"{path.name}: adj_data", weight)]
    if num_changed := int(((features.data > 0) & (features.data != 1)).sum()):
        notes.append(f"features: {num_changed:,} entries above 0 are taken as 1, as torch_geometric does")
    features.data[features.data > 0] = 1.0
    no_loop = edges[0] != edges[1]
    one_way = edges[:, no_loop].astype(np.int64)
    both_ways = np.unique(np.concatenate([one_way, one_way[::-1]], axis=1), axis=1)
    if (loops := int((~no_loop).sum())) or both_ways.shape[1] != one_way.shape[1]:
        notes.append(
            f"edges: {loops:,} self loops are left out and {one_way.shape[1]:,} edges become "
            f"{both_ways.shape[1]:,}, one each way, as torch_geometric does"
        )
    return RawGraph(both_ways, features, labels, None, tuple(notes), class_names=class_names)


def matrix_graph(matrix: sp.spmatrix, where: str) -> RawGraph:
    """A graph without features and labels from its adjacency, whose rows are sources.

    Raises:
        DataError: the matrix is not square.
    """
    if matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"{where}: it is {matrix.shape[0]} x {matrix.shape[1]}, and an adjacency is square")
    edge_index, weight = sparse_edges(matrix)
    return RawGraph(edge_index, None, None, None, weight=weight, num_nodes=int(matrix.shape[0]))


def weights_note(what: str, weights: np.ndarray) -> str:
    """A line that an adjacency's entries are not used as weights."""
    span = f"{np.min(weights):g} to {np.max(weights):g}"
    return f"{what}: edge weights ({span}) are not used; every edge counts 1"


def _benchmark(file: ArrayArchive, where: str) -> RawGraph:
    """Everything that a file of gnn-benchmark holds, edges and attributes as they are there."""
    arrays = Arrays(file, where)
    edge_index, weight = sparse_edges(compressed(file, "adj_", where))
    if "attr_data" in file:
        features = compressed(file, "attr_", where)
    else:
        given = arrays.take(["attr_matrix", "attr"])
        features = None if given is None else as_array(given, f"{where}: attr_matrix")
    labels, class_names = _labels(file)
    arrays.taken |= {"labels", "class_names"} | {name for name in file if name.startswith(("adj_", "attr_"))}
    note = (
        "edges are taken one way and with self loops, as the file has them; torch_geometric's class of the "
        "data set leaves loops out and adds the reverse of every edge: --undirected --self-loops drop"
    )
    return RawGraph(
        edge_index, features, labels, None, (*_objects(file, where), *arrays.unused(), f"{where}: {note}"),
        weight, int(file["adj_shape"][0]), class_names=class_names,
    )  # fmt: skip


def _labels(file: ArrayArchive) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels of the nodes, and names of the classes where the file has them as text."""
    labels, class_names = labels_of(file.get("labels"), "labels")
    names = file.get("class_names")
    if names is None or labels is None or names.dtype.kind not in "US":
        return labels, class_names
    is_each_named = names.ndim == 1 and labels.max(initial=-1) < len(names)
    return labels, tuple(names.astype(str).tolist()) if is_each_named else class_names


def _objects(file: ArrayArchive, where: str) -> tuple[str, ...]:
    """A note that names the arrays of Python objects."""
    names = ", ".join(shown(name, 60) for name in file.objects)
    return (f"{where}: not read: {names} (Python objects, which would be unpickled)",) if names else ()
