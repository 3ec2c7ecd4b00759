"""Features that are scaled: row by row as torch_geometric's NormalizeFeatures does, or column by column.

A model learns features that are scaled by numbers of the graph that it is trained on. Rows of another graph
mean the same to it only if they are scaled by those numbers too: `FeatureScaling` keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr

# Scaling makes sparse features dense up to this size.
MOST_FILLED_BYTES = 2**30
MEAN = "standardize-features: the mean of a column"
# Rows that are scaled at once.
_ROWS = 1 << 16


@dataclass(frozen=True)
class Columns:
    """Mean and deviation of columns of features."""

    mean: tuple[float, ...] = ()
    """Empty where nothing was scaled by them."""
    deviation: tuple[float, ...] = ()
    """Standard deviation; 0 for a column whose entries are all alike."""


@dataclass(frozen=True)
class FeatureScaling:
    """The numbers of a graph by which its features are scaled; the defaults scale nothing."""

    degrees: Columns = Columns()
    """Of the logarithms of degrees that are the features, if they are."""
    least: float | None = None
    """The smallest entry, which `normalized_features` subtracts."""
    columns: Columns = Columns()
    """Of `standardized_features`."""


UNSCALED = FeatureScaling()


def least_entry(features: Tensor | Csr) -> float:
    """The smallest entry; 0 if there are none."""
    if not isinstance(features, Csr):
        return float(features.min()) if features.numel() else 0.0
    matrix = features.to_scipy()
    return float(matrix.min()) if min(matrix.shape) else 0.0  # counts the zeros that are not stored


def normalized_features(features: Tensor | Csr, least: float) -> Tensor | Csr:
    """The smallest entry of the whole matrix is subtracted from all, then each row is divided by its sum,
    where that is above 1.

    Args:
        features: the features.
        least: the smallest entry, of these features or of those that a model has learnt.

    Raises:
        DataError: subtracting would make sparse features dense and larger than `MOST_FILLED_BYTES`, or
            the sum of a row is too large for float32.
    """
    if not isinstance(features, Csr):
        return _normalized(features.float(), least)
    if least != 0:
        filled = _filled(features, f"normalize-features: the smallest entry is {least:g}, and it")
        return _normalized(filled, least)
    matrix = features.to_scipy()
    # nothing to subtract: the zeros that are not stored stay zero, and scaling keeps the matrix sparse
    total = np.asarray(matrix.sum(axis=1)).ravel()
    _check_sums(torch.from_numpy(total))
    return Csr.from_scipy(sp.diags(1 / np.maximum(total, 1)) @ matrix)


def feature_columns(features: Tensor | Csr) -> Columns:
    """Mean and deviation of each column, over all nodes.

    Raises:
        DataError: features are sparse, and larger than `MOST_FILLED_BYTES` once they are dense.
    """
    if isinstance(features, Csr):
        features = _filled(features, MEAN)
    mean, deviation = torch.zeros(2, features.shape[1], dtype=torch.float64)
    for block in features.split(_ROWS):
        mean += block.double().sum(dim=0) / len(features)
    for block in features.split(_ROWS):
        deviation += (block.double() - mean).square_().sum(dim=0) / len(features)
    deviation = deviation.sqrt_()
    # what is left of a constant column is the rounding of its mean
    constant = deviation <= 1e-12 * mean.abs()
    return Columns(tuple(mean.tolist()), tuple(deviation.masked_fill(constant, 0.0).tolist()))


def standardized_features(features: Tensor | Csr, columns: Columns) -> Tensor:
    """float32 features, of each column ``(entry - mean) / deviation``; 0 where the deviation is 0.

    Args:
        features: the features.
        columns: of these features, or of those that a model has learnt.

    Raises:
        DataError: as `feature_columns`.
    """
    if isinstance(features, Csr):
        features = _filled(features, MEAN)
    mean, deviation = (torch.tensor(of, dtype=torch.float64) for of in (columns.mean, columns.deviation))
    scale = torch.where(deviation == 0, 0.0, 1 / deviation)
    scaled = torch.empty(features.shape, dtype=torch.float32)
    for block, out in zip(features.split(_ROWS), scaled.split(_ROWS), strict=True):
        out.copy_((block.double() - mean).mul_(scale))
    return scaled


def _filled(features: Csr, what: str) -> Tensor:
    """Sparse features as a dense matrix; raises DataError, which begins with ``what``, for large ones."""
    size = 4 * features.num_rows * features.num_cols
    if size > MOST_FILLED_BYTES:
        raise DataError(
            f"{what} has to be subtracted from all entries, which makes sparse features dense "
            f"({size / 2**30:.1f} GiB); leave it out, or scale them first"
        )
    return torch.from_numpy(features.to_scipy().toarray())


def _normalized(features: Tensor, least: float) -> Tensor:
    if not features.numel():
        return features
    shifted = features - least
    total = shifted.sum(dim=1, keepdim=True)
    _check_sums(total)
    return shifted / total.clamp(min=1.0)


def _check_sums(total: Tensor) -> None:
    bad = ~torch.isfinite(total).flatten()
    if bad.any():
        raise DataError(
            f"normalize-features: the entries of node {int(bad.nonzero()[0])} are too large to be added up "
            "in float32; scale the features down first"
        )
