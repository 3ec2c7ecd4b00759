"""Graphs to prepare: R-MAT, whose degrees are skewed as those of web graphs, directed or made undirected."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.splits import random_split

# Share of each quadrant, as in the Graph500 benchmark.
QUADRANTS = (0.57, 0.19, 0.19, 0.05)


def rmat(num_edges: int, *, directed: bool, degree: int = 20, num_features: int = 32, seed: int = 0) -> Graph:
    """About ``num_edges`` entries in the adjacency, without self loops; ids are shuffled."""
    rng = np.random.default_rng(seed)
    scale = max(round(np.log2(num_edges / degree)), 1)
    num_nodes, drawn = 2**scale, num_edges if directed else num_edges // 2
    ends = np.zeros((2, drawn), dtype=np.int32)
    for _ in range(scale):
        # one more binary digit of both ends
        quadrant = np.searchsorted(np.cumsum(QUADRANTS)[:3], rng.random(drawn, dtype=np.float32)).astype(
            np.int8
        )
        ends[0] = 2 * ends[0] + quadrant // 2
        ends[1] = 2 * ends[1] + quadrant % 2
    ends = rng.permutation(num_nodes).astype(np.int32)[ends]
    ends = ends[:, ends[0] != ends[1]]
    ones = np.ones(ends.shape[1], dtype=np.float32)
    matrix = sp.coo_matrix((ones, (ends[0], ends[1])), shape=(num_nodes, num_nodes)).tocsr()
    if not directed:
        matrix = (matrix + matrix.T).tocsr()
    matrix.data[:] = 1
    return Graph(
        "R-MAT",
        Csr.from_scipy(matrix),
        torch.from_numpy(rng.standard_normal((num_nodes, num_features), dtype=np.float32)),
        torch.from_numpy(rng.integers(8, size=num_nodes)),
        8,
        *random_split(num_nodes, seed=seed),
    )
