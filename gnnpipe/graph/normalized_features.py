"""Features as torch_geometric's NormalizeFeatures makes them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr

# Normalising makes sparse features dense up to this size.
MOST_FILLED_BYTES = 2**30


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
        size = 4 * features.num_rows * features.num_cols
        if size > MOST_FILLED_BYTES:
            raise DataError(
                f"normalize-features: the smallest entry is {least:g}, and to shift all by it makes "
                f"sparse features dense ({size / 2**30:.1f} GiB); leave it out, or shift them first"
            )
        return _normalized(torch.from_numpy(matrix.toarray()))
    # nothing to subtract: the zeros that are not stored stay zero, and scaling keeps the matrix sparse
    total = np.asarray(matrix.sum(axis=1)).ravel()
    _check_sums(torch.from_numpy(total))
    return Csr.from_scipy(sp.diags(1 / np.maximum(total, 1)) @ matrix)


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
