"""Graphs to cut: a planted partition, an RMAT graph, and the real web graph cnr-2000."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from gnnpipe.config.run import SyntheticConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.sources.synthetic import planted_partition

# Quadrants of the Graph500 generator.
RMAT = (0.57, 0.19, 0.19, 0.05)
DEGREE = 16


def planted(num_edges: int) -> Csr:
    """Communities with 60 % of the edges inside; as many nodes as a mean degree of `DEGREE` asks for."""
    return planted_partition(
        SyntheticConfig(num_nodes=num_edges // DEGREE, avg_degree=DEGREE, num_features=1, blocks_per_class=20)
    ).adjacency


def rmat(num_edges: int) -> Csr:
    """A graph of few nodes with most of the edges, and no communities to find."""
    scale = max(1, round(np.log2(num_edges / DEGREE)))
    rng = np.random.default_rng(0)
    drawn = num_edges * 6 // 10  # both directions are added, and repeated edges count once
    source, target = np.zeros(drawn, dtype=np.int64), np.zeros(drawn, dtype=np.int64)
    for _ in range(scale):
        quadrant = rng.choice(4, drawn, p=RMAT).astype(np.int8)
        source, target = 2 * source + (quadrant >> 1), 2 * target + (quadrant & 1)
    names = rng.permutation(2**scale)  # else the number of a node tells its degree
    return _undirected(names[source], names[target], 2**scale)


def web(path: Path) -> Csr:
    """cnr-2000, undirected; ``path`` is its adj_full.npz."""
    matrix = sp.load_npz(path).tocoo()
    return _undirected(matrix.row, matrix.col, matrix.shape[0])


def _undirected(source: np.ndarray, target: np.ndarray, num_nodes: int) -> Csr:
    ones = np.ones(len(source), dtype=np.float32)
    matrix = sp.coo_matrix((ones, (target, source)), shape=(num_nodes, num_nodes)).tocsr()
    matrix = (matrix + matrix.T).tocsr()
    matrix.data[:] = 1.0
    return Csr.from_scipy(matrix)
