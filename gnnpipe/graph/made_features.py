"""Features for graphs that have none, from where their edges are."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from gnnpipe.config.features import parse_features
from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.system.steps import Say, say_nothing

# Up to this many nodes all eigenvectors are computed at once, which is exact.
DENSE_NODES = 400
# Relative error of eigenvalues at which the iteration stops: features need no more.
TOLERANCE = 1e-5
# Products with the matrix between two reports of progress, and most restarts of the iteration.
PRODUCTS_PER_REPORT, MOST_RESTARTS = 500, 3000


def made_features(adjacency: Csr, spec: str, say: Say = say_nothing) -> Tensor:
    """float32 ``[num_nodes, num_features]`` features of a graph's structure.

    degree: log(1 + number of edges that come in) and log(1 + number that go out), or one column where they
    are the same, as in an undirected graph; each column with mean 0 and deviation 1 (all 1 where it is
    constant).

    laplacian:K: K eigenvectors of the normalised Laplacian of the undirected graph (arXiv 2003.00982, section
    on positional encodings), by ascending eigenvalue, without the one that every graph has. Weights and
    parallel edges don't matter, and neither do self loops. Columns have mean square 1, and a positive largest
    entry. Nodes without edges get zeros. In a disconnected graph the first ones tell the components apart.

    Args:
        adjacency: of the graph.
        spec: degree, or laplacian:K.
        say: is told of the progress of long work.

    Raises:
        ConfigError: another ``spec``.
        DataError: K is too large for the graph, or the eigenvectors are not found in time.
    """
    num_columns = parse_features(spec)
    return _laplacian(adjacency, num_columns, say) if num_columns else _degrees(adjacency)


def _degrees(adjacency: Csr) -> Tensor:
    incoming = adjacency.rowptr.to(torch.int64).diff()
    outgoing = torch.bincount(adjacency.col, minlength=adjacency.num_cols)
    columns = [incoming] if torch.equal(incoming, outgoing) else [incoming, outgoing]
    values = torch.stack(columns, dim=1).double().log1p()
    deviation = values.std(dim=0, correction=0)
    constant = deviation <= 1e-12 * values.abs().amax(dim=0)
    scaled = (values - values.mean(dim=0)) / deviation.masked_fill(constant, 1.0)
    return scaled.masked_fill(constant, 1.0).float()


def _laplacian(adjacency: Csr, num_columns: int, say: Say) -> Tensor:
    """The wanted eigenvectors of ``I - M`` are those of the largest eigenvalues of M = D^-1/2 A D^-1/2."""
    size = adjacency.num_rows
    if num_columns >= size:
        raise DataError(
            f"features: laplacian:{num_columns} of a graph with {size} nodes; the number of columns must be "
            "below that of nodes"
        )
    structure = _structure(adjacency)
    degree = np.diff(structure.indptr).astype(np.float64)
    if not degree.any():
        raise DataError("features: laplacian of a graph without edges says nothing; use degree")
    scale = np.power(degree, -0.5, out=np.zeros(size), where=degree > 0)
    matrix = (sp.diags(scale) @ structure @ sp.diags(scale)).tocsr()
    trivial = np.sqrt(degree) / np.sqrt(degree.sum())
    if size <= DENSE_NODES:
        whole = matrix.toarray() - 2 * np.outer(trivial, trivial)  # its eigenvalue becomes -1, the last one
        columns = np.linalg.eigh(whole)[1][:, ::-1][:, :num_columns]
    else:
        columns = _largest(matrix, trivial, num_columns, say)
    columns = columns * np.sqrt(size)
    columns[degree == 0] = 0.0
    largest = columns[np.abs(columns).argmax(axis=0), np.arange(num_columns)]
    return torch.from_numpy((columns * np.where(largest < 0, -1.0, 1.0)).astype(np.float32))


def _structure(adjacency: Csr) -> sp.csr_matrix:
    """The undirected graph: 1 where there is an edge either way, and no self loops."""
    ones = np.ones(adjacency.num_entries)
    shape = (adjacency.num_rows, adjacency.num_cols)
    matrix = sp.csr_matrix((ones, adjacency.col.numpy(), adjacency.rowptr.numpy()), shape=shape)
    matrix = (matrix + matrix.T).tocsr()
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.data[:] = 1.0
    return matrix


def _largest(matrix: sp.csr_matrix, trivial: np.ndarray, num_columns: int, say: Say) -> np.ndarray:
    """Eigenvectors of the largest eigenvalues, in descending order, without the trivial one."""
    size, products = matrix.shape[0], 0

    def multiply(vector: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        if products % PRODUCTS_PER_REPORT == 0:
            say(f"laplacian:{num_columns}: {products:,} products with the adjacency of {size:,} nodes so far")
        vector = vector.ravel()
        # not trivial @ vector: BLAS would wake its threads for it, and wait for those where cores are busy
        return matrix @ vector - 2 * trivial * (trivial * vector).sum()

    start = np.random.default_rng(0).standard_normal(size)  # the same one in every run
    try:
        values, vectors = eigsh(
            LinearOperator(matrix.shape, matvec=multiply, dtype=np.float64),
            k=num_columns,
            which="LA",
            v0=start,
            ncv=min(size, max(2 * num_columns + 1, 40)),
            tol=TOLERANCE,
            maxiter=MOST_RESTARTS,
        )
    except ArpackNoConvergence:
        raise DataError(
            f"features: laplacian:{num_columns} was not found after {products:,} products with the "
            "adjacency; ask for fewer columns, or use degree"
        ) from None
    return vectors[:, np.argsort(-values, kind="stable")]
