"""Features, masks and ids of a graph folder, copied block by block."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.files.npy import ArrayWriter, StoredArray
from gnnpipe.files.spool import copied_rows
from gnnpipe.graph.convert import as_mask, scipy_of
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.folder.edges import numpy_of
from gnnpipe.graph.folder.report import FeatureFacts, SplitFacts
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.splits import MASKS, Masks

# Numbers that are handled at once.
_VALUES = 1 << 20
MOST_LISTED = 10
"""Columns that a report lists of a kind."""
Stored = dict[str, StoredArray]
"""Files by their names without ``.npy``."""


@dataclass(frozen=True)
class WrittenFeatures:
    """Features that are in the folder."""

    stored: Stored
    """The files."""
    facts: FeatureFacts
    """Statistics, counted on the way."""
    notes: tuple[str, ...]
    """Lines for the user: each names something that was changed."""


def write_array(path: Path, values: np.ndarray, dtype: Any) -> StoredArray:
    """Write an array block by block."""
    writer = ArrayWriter(path, dtype, values.shape[1:])
    try:
        for _, block in copied_rows(values, max(1, _VALUES // max(1, int(np.prod(values.shape[1:]))))):
            writer.append(block)
        return writer.finish()
    finally:
        writer.close()


def write_features(
    folder: Path, features: Tensor | np.ndarray | sp.spmatrix | Csr, num_nodes: int
) -> WrittenFeatures:
    """Write features: float16 and float32 as they are, all others as float32; sparse ones stay sparse.

    Raises:
        DataError: they are no matrix of numbers with a row for each node.
    """
    if isinstance(features, Csr):
        features = features.to_scipy()
    if isinstance(features, Tensor) and features.layout != torch.strided:
        features = scipy_of(features)
    if isinstance(features, Tensor) and features.dtype == torch.bfloat16:
        features = features.float()  # exact; NumPy has no such type
    matrix = sp.csr_matrix(features) if sp.issparse(features) else numpy_of(features)
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf" or matrix.shape[0] != num_nodes:
        raise DataError(
            f"features: expected numbers [{num_nodes}, num_features], a row for each node, got "
            f"{matrix.dtype} {list(matrix.shape)}"
        )
    if matrix.shape[1] == 0:
        raise DataError("features: there are no columns; give one at least, or use --features degree")
    return _write_sparse(folder, matrix) if sp.issparse(matrix) else _write_dense(folder, matrix)


def write_masks(folder: Path, masks: Masks, num_nodes: int) -> tuple[Stored, SplitFacts, list[str]]:
    """Write the three masks, ``[num_nodes]`` or ``[num_nodes, num_splits]``; raises DataError for others.

    Returns:
        the files, what was counted in the first split, and notes about what training will refuse in it.
    """
    stored, sizes, num_splits, first = {}, [], 1, {}
    for name, mask in zip(MASKS, masks, strict=True):
        values = numpy_of(mask)
        columns = values[:, None] if values.ndim == 1 else values
        if columns.ndim != 2 or not columns.shape[1]:
            raise DataError(
                f"{name}: expected [{num_nodes}] or [{num_nodes}, num_splits], got {values.shape}"
            )
        checked = [as_mask(np.array(column), name, num_nodes).numpy() for column in columns.T]
        bits = np.stack(checked, axis=1).reshape(values.shape)
        stored[name] = write_array(folder / f"{name}.npy", bits, bool)
        sizes.append(int(np.count_nonzero(checked[0])))
        first[name.removesuffix("_mask")] = checked[0]
        num_splits = max(num_splits, len(checked))
    return stored, SplitFacts(num_splits, *sizes), _refused_later(first)


def _refused_later(masks: dict[str, np.ndarray]) -> list[str]:
    """What `Graph` will not train with, which the source's author may want to know before."""
    shared = {
        f"{one} and {other}": int(np.count_nonzero(masks[one] & masks[other]))
        for one, other in itertools.combinations(masks, 2)
    }
    return [
        *(
            f"split: {names} share {count:,} nodes, which training refuses"
            for names, count in shared.items()
            if count
        ),
        *(
            f"split: {name} is empty, which training refuses"
            for name in ("train", "val")
            if not masks[name].any()
        ),
    ]


def write_ids(folder: Path, name: str, ids: NodeIds) -> Stored:
    """Write ids of nodes, or names of classes, as ``NAME.npy`` and, for text, ``NAME_start.npy``."""
    if ids.start is None:
        return {name: write_array(folder / f"{name}.npy", ids.content, np.int64)}
    return {
        name: write_array(folder / f"{name}.npy", ids.content, np.uint8),
        f"{name}_start": write_array(folder / f"{name}_start.npy", ids.start, np.int64),
    }


def _write_dense(folder: Path, matrix: np.ndarray) -> WrittenFeatures:
    dtype = np.float16 if matrix.dtype == np.float16 else np.float32
    columns, num_rounded, nonzero = _Columns(matrix.shape[1]), 0, 0
    writer = ArrayWriter(folder / "features.npy", dtype, matrix.shape[1:])
    try:
        for _, block in copied_rows(matrix, max(1, _VALUES // matrix.shape[1])):
            values, rounded = _converted(block, dtype)
            num_rounded += rounded
            nonzero += int(np.count_nonzero(values))
            columns.add(values)
            writer.append(values)
        stored = {"features": writer.finish()}
    finally:
        writer.close()
    density = nonzero / max(1, matrix.shape[0] * matrix.shape[1])
    facts = columns.facts(np.dtype(dtype), sparse=False, density=density)
    return WrittenFeatures(stored, facts, _notes(facts, num_rounded, matrix))


def _write_sparse(folder: Path, matrix: sp.csr_matrix) -> WrittenFeatures:
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    value, num_rounded = _converted(matrix.data, np.float32)
    wide = np.int64 if matrix.nnz >= 2**31 else np.int32
    columns = _Columns(matrix.shape[1])
    columns.add_sparse(matrix.indices, value, matrix.shape[0])
    stored = {
        "feature_rowptr": write_array(folder / "feature_rowptr.npy", matrix.indptr, np.int64),
        "feature_col": write_array(folder / "feature_col.npy", matrix.indices, wide),
        "feature_value": write_array(folder / "feature_value.npy", value, np.float32),
    }
    density = int(np.count_nonzero(value)) / max(1, matrix.shape[0] * matrix.shape[1])
    facts = columns.facts(np.dtype(np.float32), sparse=True, density=density)
    return WrittenFeatures(stored, facts, _notes(facts, num_rounded, matrix))


def _converted(values: np.ndarray, dtype: Any) -> tuple[np.ndarray, int]:
    """The values as ``dtype``, and how many are rounded."""
    with np.errstate(over="ignore"):
        converted = values.astype(dtype, copy=False)
    if values.dtype.kind == "b" or values.dtype == converted.dtype:
        return converted, 0
    back = converted.astype(np.float64) != values
    return converted, int(np.count_nonzero(back & ~np.isnan(converted)))


def _notes(facts: FeatureFacts, num_rounded: int, matrix: Any) -> tuple[str, ...]:
    notes = []
    if num_rounded:
        notes.append(f"features: {num_rounded:,} entries are rounded from {matrix.dtype} to float32")
    if facts.num_not_finite:
        notes.append(
            f"features: NaN or infinite entries in {facts.num_not_finite:,} of {facts.num_features:,} "
            f"columns, first column {facts.not_finite[0]}; training refuses them until they are replaced"
        )
    return tuple(notes)


class _Columns:
    """Finds constant columns, and those with NaN or infinite entries, in one pass.

    Args:
        num_columns: number of columns.
    """

    def __init__(self, num_columns: int) -> None:
        self._low = np.full(num_columns, np.inf, dtype=np.float32)
        self._high = np.full(num_columns, -np.inf, dtype=np.float32)
        self._bad = np.zeros(num_columns, dtype=bool)

    def add(self, block: np.ndarray) -> None:
        """Take in rows."""
        # NaN goes through min and max, so that one look at these finds it
        low, high = block.min(axis=0).astype(np.float32), block.max(axis=0).astype(np.float32)
        self._bad |= ~(np.isfinite(low) & np.isfinite(high))
        with np.errstate(invalid="ignore"):
            np.fmin(self._low, low, out=self._low)
            np.fmax(self._high, high, out=self._high)

    def add_sparse(self, column: np.ndarray, value: np.ndarray, num_rows: int) -> None:
        """Take in all entries of a sparse matrix; those that are not stored are 0."""
        stored = np.bincount(column, minlength=len(self._bad))
        gaps = stored < num_rows
        self._low[gaps] = self._high[gaps] = 0
        finite = np.isfinite(value)
        self._bad[column[~finite]] = True
        apply: tuple[tuple[Callable[..., None], np.ndarray], ...] = (
            (np.minimum.at, self._low),
            (np.maximum.at, self._high),
        )
        for take, into in apply:
            take(into, column[finite], value[finite])

    def facts(self, dtype: np.dtype[Any], *, sparse: bool, density: float) -> FeatureFacts:
        """The statistics of all columns."""
        constant = np.flatnonzero((self._low == self._high) & ~self._bad)
        bad = np.flatnonzero(self._bad)
        return FeatureFacts(
            num_features=len(self._bad),
            dtype=str(dtype),
            sparse=sparse,
            density=density,
            constant=tuple(constant[:MOST_LISTED].tolist()),
            num_constant=len(constant),
            not_finite=tuple(bad[:MOST_LISTED].tolist()),
            num_not_finite=len(bad),
        )
