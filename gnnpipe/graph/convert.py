"""Conversion of a user's numbers: without loss, or with a note that says what is lost."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.graph.csr import Csr

# Below this share of non-zeros sparse features are both smaller and faster (a CSR entry takes 8 bytes).
SPARSE_FEATURES_BELOW = 0.1
# Features in these formats stay as they are, and become float32 row by row when the graph is prepared.
_HALVES = (torch.float16, torch.bfloat16)
# Formats with values that float32 holds exactly.
_EXACT = (torch.float32, *_HALVES, torch.bool, torch.uint8, torch.int8, torch.int16)
# Entries that are checked at a time, as features may be mapped from disk and larger than the memory.
_BLOCK = 2**22

Numbers = TypeVar("Numbers", Tensor, np.ndarray)


def as_tensor(values: Any, what: str) -> Tensor:
    """An array or a tensor of real numbers, as a tensor on the CPU; raises DataError for anything else.

    An array in this machine's byte order is not copied. The tensor must not be written to.
    """
    values = values.to_numpy() if hasattr(values, "to_numpy") else values  # of pandas and polars
    if isinstance(values, list | tuple):
        values = _as_array(values, what)
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "biuf":
            raise DataError(f"{what}: it holds {_kind(values)}; real numbers are needed")
        native = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
        with warnings.catch_warnings():  # PyTorch has no tensors that can't be written to, and says so
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(native)
    if not isinstance(values, Tensor) or values.is_complex():
        raise DataError(f"{what}: it holds {_kind(values)}; real numbers are needed")
    return values.detach().cpu()


def scipy_of(matrix: Tensor) -> sp.coo_matrix:
    """SciPy's form of a sparse tensor; raises RuntimeError where its indices are out of range."""
    with torch.sparse.check_sparse_tensor_invariants(True):
        entries = matrix.detach().cpu().to_sparse_coo().coalesce()
    return sp.coo_matrix((entries.values().numpy(), entries.indices().numpy()), tuple(entries.shape))


def without_single_column(values: Numbers) -> Numbers:
    """``[n]`` of ``[n, 1]``; other shapes as they are."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def as_integers(values: Any, what: str) -> Tensor:
    """Whole numbers as int64.

    Raises:
        DataError: a value is no whole number, or a float so large that it may have been rounded.
    """
    values = as_tensor(values, what)
    if values.dtype == torch.bool:
        raise DataError(f"{what}: true and false are no numbers of nodes; whole numbers are needed")
    if values.is_floating_point() and values.numel():
        # up to here the format tells neighbouring whole numbers apart: 2^24 for float32, 2^53 for float64
        most = 2 / torch.finfo(values.dtype).eps
        bad = ~((values == values.trunc()) & (values.abs() <= most))
        if bad.any():
            raise DataError(
                f"{what}: {number_text(values[bad][0])} is no whole number that {_name(values.dtype)} holds "
                "exactly; whole numbers are needed"
            )
    return values.to(torch.int64)


def as_ids(values: Any, what: str, num_nodes: int) -> Tensor:
    """Node ids as int64; raises DataError where one is no whole number, or names no node."""
    ids = as_integers(values, what)
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= num_nodes):
        bad = ids.max() if int(ids.max()) >= num_nodes else ids.min()
        raise DataError(
            f"{what}: node id {int(bad)} is out of range for {num_nodes} nodes (0 to {num_nodes - 1}); "
            "renumber the nodes or add the missing feature rows"
        )
    return ids


def as_mask(values: Any, what: str, num_nodes: int) -> Tensor:
    """bool ``[num_nodes]`` from booleans or numbers that are 0 and 1; raises DataError for others."""
    mask = as_tensor(values, what)
    if mask.shape != (num_nodes,):
        raise DataError(
            f"{what}: expected bool [{num_nodes}], got {_name(mask.dtype)} {list(mask.shape)}; a mask says "
            "of each node whether it belongs to the split"
        )
    if mask.dtype == torch.bool:
        return mask.contiguous()
    bad = ~((mask == 0) | (mask == 1))
    if bad.any():
        node = int(bad.nonzero()[0])
        raise DataError(
            f"{what}: {number_text(mask[node])} of node {node} is neither 0 nor 1; a mask says of each node "
            "whether it belongs to the split"
        )
    return mask == 1


def as_features(values: Any) -> tuple[Tensor | Csr, tuple[str, ...]]:
    """Features as `Graph` keeps them, and notes about the conversion.

    They become float32, and sparse where most entries are zero. Halves (float16, bfloat16) stay what they
    are, and so does an array that is mapped from disk, which is not copied.

    Raises:
        DataError: an entry is not finite, or too large for float32.
    """
    # torch's sparse layouts and SciPy's all become SciPy's CSR first
    if isinstance(values, Tensor) and values.layout != torch.strided:
        values = scipy_of(values)
    if sp.issparse(values):
        matrix = sp.csr_matrix(values)
        entries, notes = exact_float32(as_tensor(matrix.data, "features"), "features")
        features: Tensor | Csr = Csr.from_scipy(
            sp.csr_matrix((entries.numpy(), matrix.indices, matrix.indptr), matrix.shape)
        )
    else:
        given, notes = as_tensor(values, "features"), ()
        if given.dim() != 2:
            raise DataError(f"features: expected shape [num_nodes, num_features], got {list(given.shape)}")
        if given.dtype not in _HALVES:
            given, notes = exact_float32(given, "features")
        if not _is_mapped(values) and _is_mostly_zero(given):
            features = Csr.from_scipy(sp.csr_matrix(given.float().numpy()))
        else:
            features = given.contiguous()
    check_finite(features)
    return features, notes


def as_weights(values: Any, num_edges: int) -> tuple[Tensor | None, tuple[str, ...]]:
    """float32 ``[num_edges]`` weights of edges, and notes about the conversion; None if all are 1.

    Raises:
        DataError: there are more or fewer weights than edges, or one is not finite.
    """
    given = without_single_column(as_tensor(values, "weight"))
    if given.shape != (num_edges,):
        raise DataError(
            f"weight: expected shape [{num_edges}], one number for each edge, got {list(given.shape)}"
        )
    weight, notes = exact_float32(given, "weight")
    bad = ~torch.isfinite(weight)
    if bad.any():
        edge = int(bad.nonzero()[0])
        raise DataError(
            f"weight: {number_text(given[edge])} of edge {edge} is not finite as float32 ({int(bad.sum()):,} "
            "such weights); replace it, or leave the edge out"
        )
    return (None, ()) if bool((weight == 1).all()) else (weight, notes)


def check_finite(features: Tensor | Csr) -> None:
    """Raise DataError where an entry is NaN or infinite, naming the first one."""
    value = features.value if isinstance(features, Csr) else features
    count, first = 0, -1
    for start, block in _blocks(value):
        bad = ~torch.isfinite(block)
        found = int(bad.sum())
        if found and first < 0:
            first = start + int(bad.flatten().nonzero()[0])
        count += found
    if not count:
        return
    if isinstance(features, Csr):
        index = torch.tensor(first, dtype=features.rowptr.dtype)
        node = int(torch.searchsorted(features.rowptr, index, right=True)) - 1
        column = int(features.col[first])
        number = float(value[first])
    else:
        node, column = divmod(first, features.shape[1])
        number = float(features[node, column])
    raise DataError(
        f"features: {count} of {value.numel()} entries are NaN or infinite as float32, first {number} of "
        f"node {node}, column {column}; replace them before training"
    )


def exact_float32(values: Tensor, what: str) -> tuple[Tensor, tuple[str, ...]]:
    """float32 numbers, and a note if some are rounded."""
    rounded = values.to(torch.float32)
    if values.dtype in _EXACT:
        return rounded, ()
    num_changed = int((rounded.to(values.dtype) != values).logical_and(~values.isnan()).sum())
    if not num_changed:
        return rounded, ()
    return rounded, (
        f"{what}: {num_changed / values.numel():.1%} of the entries are rounded from {_name(values.dtype)} "
        "to float32",
    )


def _blocks(value: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of consecutive rows, and the number of entries in front of each."""
    if value.dim() and value.stride(0) == 0:
        value = value[:1]  # all rows are one and the same
    width = max(1, value.numel() // max(1, len(value)))
    step = max(1, _BLOCK // width)
    for start in range(0, len(value), step):
        yield start * width, value[start : start + step]


def _is_mostly_zero(features: Tensor) -> bool:
    return torch.count_nonzero(features).item() < SPARSE_FEATURES_BELOW * features.numel()


def _is_mapped(values: Any) -> bool:
    """Whether an array lies in a file that is mapped into memory."""
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap.mmap)


def _as_array(values: Sequence[Any], what: str) -> np.ndarray:
    try:
        return np.array(values)
    except ValueError:  # NumPy's words are about its own insides
        raise DataError(f"{what}: its rows are not of equal length; give an array of numbers") from None


def _kind(values: Any) -> str:
    dtype = getattr(values, "dtype", type(values).__name__)
    return f"values of type {shown(str(dtype).removeprefix('torch.'))}"


def number_text(value: Tensor) -> str:
    """The shortest text that names the value in its format: 4.206 for a float32, not 4.205999851."""
    return str(value.float().item() if value.dtype == torch.bfloat16 else value.numpy()[()])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
