"""Features for graphs that have none, from where their edges are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from gnnpipe.config.features import parse_features
from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.scaled_features import Columns
from gnnpipe.system.steps import Say, say_nothing

# Up to this many nodes all eigenvectors are computed at once, which is exact.
DENSE_NODES = 400
# Relative error of eigenvalues at which the iteration stops: features need no more.
TOLERANCE = 1e-5
# Products with the matrix between two reports of progress, and most restarts of the iteration.
PRODUCTS_PER_REPORT, MOST_RESTARTS = 500, 3000


def made_features(
    adjacency: Csr, spec: str, say: Say = say_nothing, degrees: Columns | None = None
) -> Tensor:
    """float32 ``[num_nodes, num_features]`` features of a graph's structure.

    degree: log(1 + number of edges that come in) and log(1 + number that go out), or one column where they
    are the same, as in an undirected graph; each column with mean 0 and deviation 1 (all 1 where it is
    constant).

    laplacian:K: K eigenvectors of the normalised Laplacian of the undirected graph (arXiv 2003.00982, section
    on positional encodings), by ascending eigenvalue, without the one that every graph has. Weights and
    parallel edges don't matter, and neither do self loops. Columns have mean square 1, and a positive largest
    entry. Nodes without edges get zeros, and count for nothing. In a disconnected graph the first ones tell
    the components apart.

    Args:
        adjacency: of the graph.
        spec: degree, or laplacian:K.
        say: is told of the progress of long work.
        degrees: with ``degree``, mean and deviation of the columns that a model has learnt, which then take
            the place of this graph's. By default `degree_columns`.

    Raises:
        ConfigError: another ``spec``.
        DataError: K is too large for the graph, or the eigenvectors are not found in time.
    """
    num_columns = parse_features(spec)
    if num_columns:
        return _laplacian(adjacency, num_columns, say)
    values = _degrees(adjacency, degrees)
    columns = degrees or _columns_of(values)
    if values.shape[1] != len(columns.mean):
        raise DataError(
            f"features: degree makes {values.shape[1]} columns of this graph, whose edges have directions, "
            f"and made {len(columns.mean)} of an undirected one; add the reverse of every edge"
        )
    mean, deviation = (torch.tensor(of, dtype=torch.float64) for of in (columns.mean, columns.deviation))
    constant = deviation == 0
    return ((values - mean) / deviation.masked_fill(constant, 1.0)).masked_fill(constant, 1.0).float()


def degree_columns(adjacency: Csr) -> Columns:
    """Mean and deviation of the logarithms of degrees, by which ``degree`` scales them."""
    return _columns_of(_degrees(adjacency, None))


def _degrees(adjacency: Csr, like: Columns | None) -> Tensor:
    """float64 ``[num_nodes, 1 or 2]`` logarithms of degrees; two columns if ``like`` has two."""
    incoming = adjacency.rowptr.to(torch.int64).diff()
    outgoing = torch.bincount(adjacency.col, minlength=adjacency.num_cols)
    alike = torch.equal(incoming, outgoing) and not (like and len(like.mean) == 2)
    columns = [incoming] if alike else [incoming, outgoing]
    return torch.stack(columns, dim=1).double().log1p()


def _columns_of(values: Tensor) -> Columns:
    deviation = values.std(dim=0, correction=0)
    constant = deviation <= 1e-12 * values.abs().amax(dim=0)
    mean, deviation = values.mean(dim=0), deviation.masked_fill(constant, 0.0)
    return Columns(tuple(mean.tolist()), tuple(deviation.tolist()))


def _laplacian(adjacency: Csr, num_columns: int, say: Say) -> Tensor:
    """The wanted eigenvectors of ``I - M`` are those of the largest eigenvalues of M = D^-1/2 A D^-1/2."""
    size, structure = adjacency.num_rows, _structure(adjacency)
    # Nodes without edges would each be an eigenvector of its own, which tells nothing about the others.
    connected = np.flatnonzero(np.diff(structure.indptr))
    if not len(connected):
        raise DataError("features: laplacian of a graph without edges says nothing; use degree")
    if num_columns >= len(connected):
        lonely = f", {len(connected):,} of which have edges" if len(connected) < size else ""
        raise DataError(
            f"features: laplacian:{num_columns} of a graph with {size:,} nodes{lonely}; the number of "
            "columns must be below that of nodes with edges"
        )
    if len(connected) < size:
        structure = structure[connected][:, connected].tocsr()
    degree = np.diff(structure.indptr).astype(np.float64)
    scale = sp.diags(np.power(degree, -0.5))
    matrix = (scale @ structure @ scale).tocsr()
    trivial = np.sqrt(degree) / np.sqrt(degree.sum())
    if len(connected) <= DENSE_NODES:
        whole = matrix.toarray() - 2 * np.outer(trivial, trivial)  # its eigenvalue becomes -1, the last one
        vectors = np.linalg.eigh(whole)[1][:, ::-1][:, :num_columns]
    else:
        vectors = _largest(matrix, trivial, num_columns, say)
    columns = np.zeros((size, num_columns), np.float32)
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(num_columns)]
    columns[connected] = vectors * np.where(largest < 0, -1.0, 1.0) * np.sqrt(size)
    return torch.from_numpy(columns)


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
    """Eigenvectors of the largest eigenvalues, in descending order, without the trivial one.

    One run of Lanczos may find one eigenvector alone of an eigenvalue that several have: those of equal
    components, or of a mesh with symmetries. So further runs, without what is found, look for larger ones
    than the lowest until there is none.
    """
    lanczos = _Lanczos(matrix, trivial, f"laplacian:{num_columns}", say)
    try:
        values, vectors = lanczos.largest(num_columns, vectors=None)
    except ArpackNoConvergence:
        raise DataError(
            f"features: laplacian:{num_columns} was not found after {lanczos.products:,} products with the "
            "adjacency; ask for fewer columns, or use degree"
        ) from None
    for _ in range(num_columns):
        try:
            missed, more = lanczos.largest(num_columns, vectors)
        except ArpackNoConvergence:  # none stands out
            break
        if missed[0] <= values[-1] + TOLERANCE:
            break
        values, vectors = _best(matrix, np.concatenate([vectors, more], axis=1), num_columns)
    return vectors


@dataclass
class _Lanczos:
    """Runs of Lanczos on one matrix."""

    matrix: sp.csr_matrix
    trivial: np.ndarray
    """Its eigenvector that is not wanted."""
    spec: str
    """Words for progress."""
    say: Say
    products: int = 0
    """Products with the matrix so far."""
    runs: int = 0

    def largest(self, number: int, vectors: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Largest eigenvalues, descending, and their eigenvectors, without those given and the trivial one.

        Raises:
            ArpackNoConvergence: they are not found in time.
        """
        size = self.matrix.shape[0]
        known = [self.trivial] if vectors is None else [self.trivial, *np.ascontiguousarray(vectors.T)]
        # The same starts each time, but another one for each run: what a start holds of the eigenvectors of
        # one value is a single direction, which its run finds.
        start = np.random.default_rng(self.runs).standard_normal(size)
        self.runs += 1

        def multiply(vector: np.ndarray) -> np.ndarray:
            self._count()
            vector = vector.ravel()
            product = self.matrix @ vector
            for one in known:  # their eigenvalues become -1 at most
                # not one @ vector: BLAS would wake its threads for it, and wait where cores are busy
                product -= 2 * one * (one * vector).sum()
            return product

        values, found = eigsh(
            LinearOperator(self.matrix.shape, matvec=multiply, dtype=np.float64),
            k=number,
            which="LA",
            v0=start,
            ncv=min(size, max(2 * number + 1, 40)),
            tol=TOLERANCE,
            maxiter=MOST_RESTARTS,
        )
        order = np.argsort(-values, kind="stable")
        return values[order], found[:, order]

    def _count(self) -> None:
        self.products += 1
        if self.products % PRODUCTS_PER_REPORT == 0:
            self.say(
                f"{self.spec}: {self.products:,} products with the adjacency of "
                f"{self.matrix.shape[0]:,} nodes so far"
            )


def _best(matrix: sp.csr_matrix, vectors: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues inside the space of some vectors, and their eigenvectors (Rayleigh-Ritz)."""
    basis = np.linalg.qr(vectors)[0]
    values, within = np.linalg.eigh(basis.T @ (matrix @ basis))
    return values[::-1][:number], basis @ within[:, ::-1][:, :number]
