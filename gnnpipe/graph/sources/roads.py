"""The built-in road network: a planar graph with long ways, whose labels need many hops.

crossings on a grid     a spanning tree,        streets bend: nodes in
(all pairs of           and some of the         the middle of edges
neighbours)             other edges

o---o---o---o           o---o   o---o           o-.-o   o-.-o
|   |   |   |           |   |   |               |   |   |
o---o---o---o           o---o---o---o           o-.-o---o-.-o
|   |   |   |               |   |   |               |   .   |
o---o---o---o           o---o   o---o           o-.-o   o---o
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import minimum_spanning_tree

from gnnpipe.config.run import SyntheticConfig
from gnnpipe.config.synthetic import check_synthetic
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.splits import random_split

# Edges between crossings beyond those of a tree, for each crossing, where the mean degree allows nodes in the
# middle of edges: crossings then have a mean degree of 3.2.
EXTRA_EDGES = 0.6
# Labels are quantiles of the distance to the nearest landmark: the median is 8 hops, and one node in ten is
# farther than 16.
NODES_PER_LANDMARK = 150


def road_network(config: SyntheticConfig, split: int = 0) -> Graph:
    """A seeded, connected and planar graph of streets.

    A node's class says how many hops the nearest of some landmarks is away: classes are quantiles, 0 is the
    nearest. Features tell landmarks from other nodes, through Gaussian noise. So a network needs as many
    layers as there are hops, and has to read every node on the way.

    Nodes are numbered along the rows of the map, a street's behind the crossing where it begins. Time and
    memory are linear in the number of nodes but for the sorting of edges.

    Raises:
        ConfigError: a field is out of range, or belongs to another kind of graph.
    """
    check_synthetic(config)
    rng = np.random.default_rng(config.seed)
    matrix = _streets(config.num_nodes, config.degree, rng)
    num_landmarks = max(1, config.num_nodes // NODES_PER_LANDMARK)
    landmarks = rng.choice(config.num_nodes, num_landmarks, replace=False)
    hops = hops_to(matrix, landmarks)
    mean = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), size=config.num_features)
    features = rng.standard_normal((config.num_nodes, config.num_features), dtype=np.float32)
    features *= np.float32(config.deviation)
    features += np.where(hops == 0, 1, -1).astype(np.float32)[:, None] * mean
    return Graph(
        "roads",
        Csr.from_scipy(matrix),
        torch.from_numpy(features),
        torch.from_numpy(_quantiles(hops, config.num_classes)),
        config.num_classes,
        *random_split(config.num_nodes, seed=split),
    )


def hops_to(matrix: sp.csr_matrix, sources: np.ndarray) -> np.ndarray:
    """Number of hops of each node to the nearest source, int64 ``[num_nodes]``; -1 where there is no way."""
    hops = np.full(matrix.shape[0], -1, dtype=np.int64)
    front, distance = np.unique(sources), 0
    while front.size:
        hops[front] = distance
        reached = np.unique(matrix[front].indices)
        front, distance = reached[hops[reached] < 0], distance + 1
    return hops


def _streets(num_nodes: int, degree: float, rng: np.random.Generator) -> sp.csr_matrix:
    """The adjacency, with both directions of each edge; see the picture above.

    With n crossings, ``n + x`` edges between them and b bends, there are ``n + b`` nodes and ``n + x + b``
    edges, so that the mean degree says how many edges x there are more than nodes.
    """
    num_extra = round(num_nodes * (degree / 2 - 1))
    num_crossings = min(num_nodes, max(4, round(num_extra / EXTRA_EDGES)))
    start, end, on_tree = _grid(num_crossings, rng)
    # a tree has one edge less than nodes
    others = rng.permutation(np.flatnonzero(~on_tree))[: num_extra + 1]
    kept = np.sort(np.concatenate([np.flatnonzero(on_tree), others]))
    start, end = start[kept], end[kept]
    num_bends = num_nodes - num_crossings
    street = np.sort(rng.integers(start.size, size=num_bends))
    return _bent(start, end, street, num_crossings)


def _grid(num_crossings: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The edges of a grid, the last row of which may be short: their ends, and whether a random spanning tree
    has them."""
    width = max(2, int(num_crossings**0.5))
    node = np.arange(num_crossings)
    right = node[(node % width < width - 1) & (node + 1 < num_crossings)]
    down = node[node + width < num_crossings]
    start, end = np.concatenate([right, down]), np.concatenate([right + 1, down + width])
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    length = 1.0 + rng.random(start.size)
    lengths = sp.coo_matrix((length, (start, end)), shape=(num_crossings, num_crossings)).tocsr()
    tree = minimum_spanning_tree(lengths).tocoo()
    on_tree = np.isin(start * num_crossings + end, tree.row.astype(np.int64) * num_crossings + tree.col)
    return start, end, on_tree


def _bent(start: np.ndarray, end: np.ndarray, street: np.ndarray, num_crossings: int) -> sp.csr_matrix:
    """The streets with nodes in their middle, numbered along the rows of the map.

    # street 3 from crossing 5 to 6 with two bends, b and c      5 --- b --- c --- 6

    Args:
        start: crossing at one end of each street, ascending.
        end: crossing at the other end.
        street: ascending, for each bend the street that it is on.
        num_crossings: number of crossings, of which bends are numbered behind the one that they start at.
    """
    num_nodes = num_crossings + street.size
    # the place of each node on the map: crossings first among those with the same number
    place = np.concatenate([np.arange(num_crossings), start[street]])
    number = np.empty(num_nodes, dtype=np.int64)
    number[np.argsort(place, kind="stable")] = np.arange(num_nodes)
    # a walk over all streets, each from its start by its bends to its end
    size = np.bincount(street, minlength=start.size) + 2
    first = np.cumsum(size) - size
    walk = np.empty(size.sum(), dtype=np.int64)
    walk[first], walk[first + size - 1] = start, end
    inner = np.ones(walk.size, dtype=bool)
    inner[first] = inner[first + size - 1] = False
    walk[inner] = num_crossings + np.arange(street.size)
    joined = np.ones(walk.size - 1, dtype=bool)
    joined[first[1:] - 1] = False  # from the end of one street to the start of the next there is no edge
    row, col = number[walk[:-1][joined]], number[walk[1:][joined]]
    ends = np.concatenate([row, col]), np.concatenate([col, row])
    ones = np.ones(2 * row.size, dtype=np.float32)
    return sp.coo_matrix((ones, ends), shape=(num_nodes, num_nodes)).tocsr()


def _quantiles(hops: np.ndarray, num_classes: int) -> np.ndarray:
    """Classes of nearly equal size by the number of hops; nodes with as many hops are of one class."""
    bounds = np.quantile(hops, np.arange(1, num_classes) / num_classes)
    return np.searchsorted(bounds, hops, side="left").astype(np.int64)
