"""Readers of data sets' raw files: numbers and JSON, never pickled objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.files.arrays import arrays, read_array
from gnnpipe.files.reading import read_json
from gnnpipe.graph.convert import as_ids, as_integers, as_tensor
from gnnpipe.graph.sources.raw import RawGraph


def read_npz(path: Path) -> RawGraph:
    """Coauthor and Amazon: ``adj_*``, ``attr_*`` and ``labels`` in one file.

    Features stay sparse: those of Coauthor Physics have 1.1 million non-zeros, and take 1.16 GB when dense.
    As in torch_geometric, features become 0 or 1, self loops are left out, and every edge gets its reverse.
    """
    with arrays(path) as file:
        features, adjacency = sparse_of(file, "attr_"), sparse_of(file, "adj_").tocoo()
        labels = as_tensor(file["labels"], "labels")
    notes = [*weights_note(f"{path.name}: adj_data", adjacency.data)]
    num_changed = int(((features.data > 0) & (features.data != 1)).sum())
    if num_changed:
        notes.append(f"features: {num_changed:,} entries above 0 are taken as 1, as torch_geometric does")
    features.data[features.data > 0] = 1.0
    no_loop = adjacency.row != adjacency.col
    edges = np.stack([adjacency.row[no_loop], adjacency.col[no_loop]]).astype(np.int64)
    both_ways = np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)
    if (loops := int((~no_loop).sum())) or both_ways.shape[1] != edges.shape[1]:
        notes.append(
            f"edges: {loops:,} self loops are left out and {edges.shape[1]:,} edges become "
            f"{both_ways.shape[1]:,}, one each way, as torch_geometric does"
        )
    return RawGraph(torch.from_numpy(both_ways), features, labels, None, tuple(notes))


def read_saint(folder: Path) -> RawGraph:
    """Flickr, Reddit2, Yelp and AmazonProducts, in GraphSAINT's layout (arXiv 1907.04931).

    adj_full.npz      sparse matrix with sources as rows
    feats.npy         float ``[num_nodes, num_features]``
    class_map.json    {"0": 3, ...} or {"0": [0, 1, 1], ...}
    role.json         {"tr": [ids], "va": [ids], "te": [ids]}
    """
    with arrays(folder / "adj_full.npz") as file:
        adjacency = sparse_of(file, "").tocoo()
    features = as_tensor(read_array(folder / "feats.npy"), "feats.npy")
    num_nodes = len(features)
    edge_index = np.stack([adjacency.row, adjacency.col]).astype(np.int64)
    roles = _json(folder / "role.json")
    train, val, test = (
        mask_of(_role(roles, name), f"role.json: '{name}'", num_nodes) for name in ("tr", "va", "te")
    )
    return RawGraph(
        torch.from_numpy(edge_index),
        features,
        _class_map(_json(folder / "class_map.json"), num_nodes),
        (train, val, test),
        weights_note("adj_full.npz", adjacency.data),
    )


def sparse_of(file: Mapping[str, Any], prefix: str) -> sp.csr_matrix:
    """The CSR matrix that a file holds as four arrays; raises DataError where they don't fit together."""
    data, indices, indptr, shape = (
        as_tensor(file[f"{prefix}{part}"], f"{prefix}{part}")
        for part in ("data", "indices", "indptr", "shape")
    )
    # SciPy believes indptr and indices: wrong ones would make it read beyond its arrays
    rows, cols = as_integers(shape, f"{prefix}shape").tolist()
    indices = as_ids(indices, f"{prefix}indices", cols) if indices.numel() else indices.to(torch.int64)
    starts = as_integers(indptr, f"{prefix}indptr")
    if len(starts) != rows + 1 or len(data) != len(indices):
        raise DataError(f"{prefix}indptr: {len(starts) - 1} rows for a matrix of {rows}; the file is damaged")
    if int(starts[0]) or int(starts[-1]) != len(data) or bool((starts.diff() < 0).any()):
        raise DataError(f"{prefix}indptr: it does not rise from 0 to {len(data)}; the file is damaged")
    return sp.csr_matrix((data.numpy().copy(), indices.numpy(), starts.numpy()), (rows, cols))


def mask_of(ids: Any, what: str, num_nodes: int) -> Tensor:
    """bool ``[num_nodes]`` from a list of ids; raises DataError where it is empty or names no node."""
    if not isinstance(ids, Tensor | np.ndarray):
        try:
            ids = torch.tensor(ids)
        except (TypeError, ValueError, RuntimeError):
            raise DataError(f"{what}: {shown(ids)} is no list of node ids") from None
    if not ids.size if isinstance(ids, np.ndarray) else not ids.numel():
        raise DataError(f"{what} names no node; training, validation and testing need one at least")
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[as_ids(ids, what, num_nodes).flatten()] = True
    return mask


def weights_note(what: str, weights: np.ndarray) -> tuple[str, ...]:
    """A note that an adjacency's entries are not used as weights; none where all are 1."""
    if weights.dtype == np.bool_ or not weights.size or bool((weights == 1).all()):
        return ()
    span = f"{np.min(weights):g} to {np.max(weights):g}"
    return (f"{what}: edge weights ({span}) are not used; every edge counts 1",)


def _role(roles: Any, name: str) -> Any:
    if not isinstance(roles, dict) or name not in roles:
        raise DataError(f"role.json: '{name}' is missing; it lists the nodes of each of tr, va and te")
    return roles[name]


def _class_map(classes: Any, num_nodes: int) -> Tensor:
    """float64 ``[num_nodes]`` classes or ``[num_nodes, num_labels]`` of 0 and 1; NaN where there is none."""
    if not isinstance(classes, dict):
        raise DataError("class_map.json: expected an object of classes by node")
    try:
        keys = torch.tensor([int(key) for key in classes], dtype=torch.int64)
    except (ValueError, RuntimeError, OverflowError):
        raise DataError("class_map.json: a key is no node id; number the nodes 0, 1, 2 and so on") from None
    nodes = as_ids(keys, "class_map.json", num_nodes)
    known = _label_values(list(classes.values()))
    labels = torch.full((num_nodes, *known.shape[1:]), torch.nan, dtype=torch.float64)
    labels[nodes] = known
    return labels


def _label_values(values: list[Any]) -> Tensor:
    """float64 from numbers, or from lists of numbers of equal length; raises DataError for anything else."""
    lists = [isinstance(value, list) for value in values]
    if any(lists) and not (all(lists) and len({len(value) for value in values}) == 1):
        raise DataError("class_map.json: give each node one class number, or each a list of equal length")
    try:
        return torch.tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        odd = next(
            (value for value in values if not isinstance(value, int | float | list)),
            values[0] if values else None,
        )
        raise DataError(
            f"class_map.json: '{shown(odd)}' is neither a class number nor a list of 0 and 1"
        ) from None


def _json(path: Path) -> Any:
    try:
        return read_json(path, link=True, finite=False)
    except ValueError as error:
        raise DataError(f"{path.name}: it is no JSON ({shown(str(error))})") from None
