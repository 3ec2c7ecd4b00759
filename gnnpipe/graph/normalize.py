"""Normalised adjacencies, computed once when the graph is prepared."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp

from gnnpipe.graph.csr import Csr

Normalization = Literal["gcn", "mean"]


def normalized(adjacency: Csr, kind: Normalization) -> Csr:
    """The matrix that layers multiply their input rows with.

    gcn: ``D^-1/2 (A + I) D^-1/2``, where every node has exactly one self loop and D holds the in-degrees
    with it (arXiv 1609.02907). mean: ``D^-1 A``, where every row sums to 1, or to 0 without neighbours
    (arXiv 1706.02216). Parallel edges weigh as often as they occur.
    """
    matrix = adjacency.to_scipy()
    if kind == "gcn":
        # self loops of the graph itself are replaced, not added to
        loops = matrix.diagonal()
        matrix = matrix - sp.diags(loops) + sp.identity(matrix.shape[0], dtype=np.float32)
    matrix = sp.csr_matrix(matrix, dtype=np.float32)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    degree = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    power = -0.5 if kind == "gcn" else -1.0
    scale = np.power(degree, power, out=np.zeros_like(degree), where=degree > 0)
    per_entry = np.repeat(scale, np.diff(matrix.indptr))
    if kind == "gcn":
        # both factors are multiplied first: floating-point products commute, so a symmetric graph stays
        # symmetric to the last bit, and `transposed` stores it once
        per_entry = per_entry * scale[matrix.indices]
    matrix.data = (matrix.data * per_entry).astype(np.float32)
    return Csr.from_scipy(matrix)


def num_self_loops(kind: Normalization, num_nodes: int) -> int:
    """Number of entries that `normalized` adds to a graph without self loops."""
    return num_nodes if kind == "gcn" else 0


def keeps_symmetry(kind: Normalization) -> bool:
    """Whether the normalised adjacency of an undirected graph is symmetric."""
    return kind == "gcn"


def transposed(matrix: Csr) -> Csr:
    """The transpose; the same object where the matrix is symmetric, so that it is stored once."""
    turned = matrix.to_scipy().T.tocsr()
    turned.sort_indices()
    same = (
        np.array_equal(turned.indptr, matrix.rowptr.numpy())
        and np.array_equal(turned.indices, matrix.col.numpy())
        and np.array_equal(turned.data, matrix.value.numpy())
    )
    return matrix if same else Csr.from_scipy(turned)
