"""Features that are scaled: row by row as torch_geometric's NormalizeFeatures does, or column by column."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr

# Scaling makes sparse features dense up to this size.
MOST_FILLED_BYTES = 2**30
# Rows that are scaled at once.
_ROWS = 1 << 16


def normalized_features(features: Tensor | Csr) -> Tensor | Csr:
    """The smallest entry of the whole matrix is subtracted from all, then each row is divided by its sum,
    where that is above 1.

    Raises:
        DataError: subtracting would make sparse features dense and larger than `MOST_FILLED_BYTES`, or
            the sum of a row is too large for float32.
    """
    if not isinstance(features, Csr):
        return _normalized(features.float())
    matrix = features.to_scipy()
    least = float(matrix.min()) if min(matrix.shape) else 0.0  # counts the zeros that are not stored
    if least != 0:
        return _normalized(_filled(features, f"normalize-features: the smallest entry is {least:g}, and it"))
    # nothing to subtract: the zeros that are not stored stay zero, and scaling keeps the matrix sparse
    total = np.asarray(matrix.sum(axis=1)).ravel()
    _check_sums(torch.from_numpy(total))
    return Csr.from_scipy(sp.diags(1 / np.maximum(total, 1)) @ matrix)


def standardized_features(features: Tensor | Csr) -> Tensor:
    """float32 features whose columns have mean 0 and deviation 1 over all nodes; constant ones are 0.

    Raises:
        DataError: features are sparse, and larger than `MOST_FILLED_BYTES` once they are dense.
    """
    if isinstance(features, Csr):
        features = _filled(features, "standardize-features: the mean of a column")
    mean, deviation = torch.zeros(2, features.shape[1], dtype=torch.float64)
    for block in features.split(_ROWS):
        mean += block.double().sum(dim=0) / len(features)
    for block in features.split(_ROWS):
        deviation += (block.double() - mean).square_().sum(dim=0) / len(features)
    deviation = deviation.sqrt_()
    # what is left of a constant column is the rounding of its mean
    constant = deviation <= 1e-12 * mean.abs()
    scale = torch.where(constant, 0.0, 1 / deviation)
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


def _normalized(features: Tensor) -> Tensor:
    if not features.numel():
        return features
    shifted = features - features.min()
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
