"""Adjacency and feature matrices as SciPy's ``save_npz`` and gnn-benchmark store them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp

from gnnpipe.errors import DataError, shown
from gnnpipe.files.arrays import OBJECTS
from gnnpipe.graph.convert import as_ids, as_integers
from gnnpipe.graph.sources.formats.named import as_array

# Arrays of a matrix: compressed rows or columns, or one entry each.
_COMPRESSED, _ENTRIES = ("data", "indices", "indptr", "shape"), ("data", "row", "col", "shape")
_MOST_ROWS = 2**40
CONVERT = "load it with scipy.sparse.load_npz and save it again as matrix.tocsr()"


def is_scipy(names: Mapping[str, np.ndarray]) -> bool:
    """Whether an npz file holds just one sparse matrix."""
    there = set(names) - {"format", "_is_array"}
    return there in ({*_COMPRESSED}, {*_ENTRIES}) or ("format" in names and {"data", "shape"} <= there)


def read_scipy(arrays: Mapping[str, np.ndarray], where: str) -> sp.spmatrix:
    """The matrix of ``scipy.sparse.save_npz``, in the format it was saved in.

    Raises:
        DataError: another format, or arrays that don't fit together.
    """
    kind = _format(arrays)
    if kind == "coo":
        return _entries(arrays, where)
    if kind not in ("csr", "csc"):
        raise DataError(f"{where}: matrices in SciPy's format '{shown(kind)}' are not read; {CONVERT}")
    return compressed(arrays, "", where, columns=kind == "csc")


def compressed(
    arrays: Mapping[str, np.ndarray], prefix: str, where: str, *, columns: bool = False
) -> sp.spmatrix:
    """The matrix that four arrays hold.

    Args:
        arrays: arrays by name.
        prefix: begins the names of the four.
        where: name of the file, for messages.
        columns: whether columns are compressed (CSC) instead of rows.

    Raises:
        DataError: one is absent, or they don't fit together.
    """
    data, indices, indptr, shape = _parts(arrays, prefix, where, _COMPRESSED)
    what = f"{where}: {prefix}"
    # SciPy believes indptr and indices: wrong ones would make it read beyond its arrays
    sizes = _sizes(shape, f"{what}shape")
    outer, inner = (sizes[1], sizes[0]) if columns else sizes
    numbers = as_ids(indices, f"{what}indices", inner).numpy()
    starts = as_integers(indptr, f"{what}indptr").numpy().reshape(-1)
    if len(starts) != outer + 1 or data.ndim != 1 or data.shape != indices.shape:
        raise DataError(f"{what}indptr: {len(starts) - 1} rows for a matrix of {outer}; the file is damaged")
    if int(starts[0]) or int(starts[-1]) != len(data) or bool((np.diff(starts) < 0).any()):
        raise DataError(f"{what}indptr: it does not rise from 0 to {len(data)}; the file is damaged")
    return (sp.csc_matrix if columns else sp.csr_matrix)((data, numbers, starts), sizes)


def _entries(arrays: Mapping[str, np.ndarray], where: str) -> sp.coo_matrix:
    data, row, col, shape = _parts(arrays, "", where, _ENTRIES)
    rows, cols = _sizes(shape, f"{where}: shape")
    if data.ndim != 1 or data.shape != row.shape or data.shape != col.shape:
        raise DataError(f"{where}: data, row and col differ in shape; the file is damaged")
    ends = as_ids(row, f"{where}: row", rows).numpy(), as_ids(col, f"{where}: col", cols).numpy()
    return sp.coo_matrix((data, ends), (rows, cols))


def _parts(
    arrays: Mapping[str, np.ndarray], prefix: str, where: str, names: tuple[str, ...]
) -> list[np.ndarray]:
    absent = [f"{prefix}{name}" for name in names if f"{prefix}{name}" not in arrays]
    unsafe = [name for name in absent if name in getattr(arrays, "objects", ())]
    if unsafe:
        raise DataError(f"{where}: {', '.join(unsafe)}: {OBJECTS}; save plain numbers instead")
    if absent:
        raise DataError(f"{where}: {', '.join(absent)} absent; a sparse matrix has {', '.join(names)}")
    return [as_array(arrays[f"{prefix}{name}"], f"{where}: {prefix}{name}") for name in names]


def _sizes(shape: np.ndarray, what: str) -> tuple[int, int]:
    sizes = as_integers(shape, what).flatten().tolist()
    if len(sizes) != 2 or not all(0 <= size < _MOST_ROWS for size in sizes):
        raise DataError(f"{what}: {shown(sizes)} are no two sizes of a matrix")
    return sizes[0], sizes[1]


def _format(arrays: Mapping[str, np.ndarray]) -> str:
    """SciPy's name of the format; GraphSAINT and others leave it out where it is csr."""
    if "format" not in arrays:
        return "coo" if "row" in arrays else "csr"
    value = arrays["format"].item() if arrays["format"].size == 1 else "?"
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
