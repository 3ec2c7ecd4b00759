"""Adjacencies as layers multiply with them; computed once, on load."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp

from gnnpipe.graph.csr import Csr

Normalization = Literal["gcn", "mean"]


def normalized(adjacency: Csr, kind: Normalization) -> Csr:
    """Return the matrix A of ``z = A @ T``.

    gcn: ``D^-1/2 (A + I) D^-1/2`` with D the in-degrees after every node got exactly one self loop
    (arXiv 1609.02907). mean: ``D^-1 A``, every row sums to 1 or, without neighbours, to 0
    (arXiv 1706.02216). Parallel edges weigh as many times as they occur.
    """
    matrix = adjacency.to_scipy()
    if kind == "gcn":
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
        # a product of two numbers is the same in either order, so a symmetric graph stays exactly so
        per_entry = per_entry * scale[matrix.indices]
    matrix.data = (matrix.data * per_entry).astype(np.float32)
    return Csr.from_scipy(matrix)


def transposed(matrix: Csr) -> Csr:
    """The transpose; the very same object where the matrix is symmetric, so that it is stored once."""
    turned = matrix.to_scipy().T.tocsr()
    turned.sort_indices()
    same = (
        np.array_equal(turned.indptr, matrix.rowptr.numpy())
        and np.array_equal(turned.indices, matrix.col.numpy())
        and np.array_equal(turned.data, matrix.value.numpy())
    )
    return matrix if same else Csr.from_scipy(turned)
