"""A graph from arrays by name: the members of an npz file, the files of a folder, or a dict of tensors.

The usual names are known (`EDGES` and so on); arrays under other names are named in a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.graph.convert import as_ids, as_integers, as_mask, as_tensor, scipy_of, without_single_column
from gnnpipe.graph.sources.raw import RawGraph, one_column_note
from gnnpipe.graph.splits import Masks

EDGES = ("edge_index", "edge_indices", "edges", "edge_list", "edge")
ENDS = (("row", "col"), ("src", "dst"), ("source", "target"), ("senders", "receivers"))
FEATURES = ("x", "features", "node_features", "node_feat", "node-feat", "node_feats", "feats", "feat")
LABELS = ("y", "labels", "node_labels", "node_label", "node-label", "label", "target", "targets")
EDGE_FEATURES = ("edge_attr", "edge_features", "edge_feat", "edge-feat", "edge_feats", "efeat")
EDGE_TYPES = ("edge_type", "edge_types", "edge-type")
WEIGHTS = ("edge_weight", "edge_weights", "weight", "weights")
SPLITS = (("train",), ("val", "valid", "validation"), ("test",))
# `train_masks` has a split a row, as in heterophilous-graphs; `train_mask` a split a column, as in PyG.
_MASK_NAMES = ("{}_mask", "{}_masks", "mask_{}")
_INDEX_NAMES = ("{}_idx", "{}_index", "{}_ids", "{}_nodes", "idx_{}", "{}")
_SIZES = ("num_nodes", "num_nodes_list")
# Sizes that other arrays tell as well.
_SAID_TWICE = ("num_edges_list", "num_edges", "num_classes", "num_features")
_BLOCK = 1 << 22


@dataclass
class Arrays:
    """Arrays by name, of which readers take one after the other; the rest is named in a note."""

    content: Mapping[str, Any]
    """Arrays, tensors or SciPy's matrices; read or mapped when they are taken."""
    where: str
    """Name of the file or folder, for messages."""
    taken: set[str] = field(default_factory=set)
    """Names that were taken, or that say nothing new."""

    def find(self, names: Iterable[str]) -> str | None:
        """The first of some names that is there and not taken yet."""
        return next((name for name in names if name in self.content and name not in self.taken), None)

    def take(self, names: Iterable[str]) -> Any:
        """The array under the first of some names; None where none is there."""
        name = self.find(names)
        if name is None:
            return None
        self.taken.add(name)
        return self.content[name]

    def unused(self) -> tuple[str, ...]:
        """A note that names the arrays that nobody took."""
        names = sorted(shown(name, 60) for name in self.content if name not in {*self.taken, *_SAID_TWICE})
        return (f"{self.where}: not used: {shown(', '.join(names), 400)}",) if names else ()


def graph_of_names(content: Mapping[str, Any], where: str, notes: tuple[str, ...] = ()) -> RawGraph:
    """The graph that arrays with usual names make up.

    Args:
        content: NumPy's or torch's arrays, or SciPy's matrices, by name.
        where: name of the file or folder, for messages.
        notes: lines for the user that are known already.

    Raises:
        DataError: there are no edges, or arrays don't fit together.
    """
    arrays = Arrays(content, where)
    edge_index, weight = _edges(arrays)
    features = as_matrix(arrays.take(FEATURES), f"{where}: features")
    labels, class_names = labels_of(arrays.take(LABELS), f"{where}: labels")
    num_nodes = _num_nodes(arrays, features, labels, edge_index)
    weight = arrays.take(WEIGHTS) if weight is None else weight
    masks = masks_of(arrays, num_nodes)
    edge_type, type_names = labels_of(arrays.take(EDGE_TYPES), f"{where}: edge_type")
    edge_attr = as_matrix(arrays.take(EDGE_FEATURES), f"{where}: edge_attr")
    notes = (*notes, *one_column_note(edge_attr, weighted=weight is not None))
    return RawGraph(
        edge_index, features, labels, masks, (*notes, *arrays.unused()), weights_of(weight, where),
        num_nodes, class_names=class_names, edge_attr=edge_attr, edge_type=edge_type,
        edge_type_names=type_names,
    )  # fmt: skip


def has_edges(names: Iterable[str]) -> bool:
    """Whether some of the names hold edges."""
    there = set(names)
    return bool(there & {*EDGES, "adj_t", "adj"}) or any({*ends} <= there for ends in ENDS)


def edges_of(edges: Any, what: str, *, one_a_row: bool = False) -> np.ndarray:
    """Whole numbers ``[2, num_edges]`` without a copy, from that shape or its transpose.

    Args:
        edges: array or tensor.
        what: name for messages.
        one_a_row: take a 2 x 2 array as rows of edges.

    Raises:
        DataError: another shape, or values that are no whole numbers.
    """
    array = as_array(edges, what)
    if array.ndim != 2 or 2 not in array.shape:
        raise DataError(f"{what}: expected shape [2, num_edges] or [num_edges, 2], got {list(array.shape)}")
    if array.dtype.kind not in "iu":
        array = as_integers(array, what).numpy()
    rows = array.shape[0] != 2 or (one_a_row and array.shape[1] == 2)
    return array.T if rows else array


def largest_id(edge_index: np.ndarray) -> int:
    """The largest node id, read block by block; -1 without edges."""
    blocks = range(0, edge_index.shape[1], _BLOCK)
    return max((int(edge_index[:, start : start + _BLOCK].max()) for start in blocks), default=-1)


def sparse_edges(matrix: sp.spmatrix) -> tuple[np.ndarray, np.ndarray | None]:
    """Edges of a SciPy matrix whose rows are sources, and their weights; None where all are 1."""
    entries = sp.coo_matrix(matrix)
    return np.stack([entries.row, entries.col]), weights_of(entries.data, "matrix")


def weights_of(weight: Any, where: str) -> np.ndarray | None:
    """Weights ``[num_edges]``; None where all are 1, or there are none."""
    if weight is None:
        return None
    array = without_single_column(as_array(weight, f"{where}: edge weights"))
    if array.ndim != 1:
        raise DataError(f"{where}: edge weights: expected shape [num_edges], got {list(array.shape)}")
    blocks = range(0, len(array), _BLOCK)
    return None if all(bool((array[start : start + _BLOCK] == 1).all()) for start in blocks) else array


def as_array(values: Any, what: str) -> np.ndarray:
    """A NumPy array of real numbers without a copy; raises DataError for anything else."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and values.dtype.isnative:
        return values
    tensor = as_tensor(values, what)
    if tensor.layout != torch.strided:
        raise DataError(f"{what}: a sparse tensor stands there, and a dense one is needed")
    return tensor.numpy() if tensor.dtype != torch.bfloat16 else tensor.float().numpy()


def as_matrix(features: Any, what: str) -> Any:
    """Features ``[num_nodes, num_features]`` as they are; a single column may lack its second size."""
    if features is None or sp.issparse(features):
        return features
    if isinstance(features, Tensor) and features.layout != torch.strided:
        return scipy_of(features).tocsr()
    features = features.detach() if isinstance(features, Tensor) else as_array(features, what)
    if features.ndim == 1:
        features = features[:, None]
    if features.ndim != 2:
        raise DataError(f"{what}: expected shape [num_nodes, num_features], got {list(features.shape)}")
    return features


def labels_of(labels: Any, what: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels ``[num_nodes]`` or ``[num_nodes, num_labels]``, and names of classes that are text."""
    if labels is None:
        return None, ()
    names: tuple[str, ...] = ()
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "US":
        text = labels.astype(str)
        known = np.unique(text[text != ""])
        names = tuple(known.tolist())
        labels = np.where(text == "", -1, np.searchsorted(known, text))
    array = without_single_column(as_array(labels, what))
    if array.ndim not in (1, 2):
        raise DataError(
            f"{what}: expected shape [num_nodes] or [num_nodes, num_labels], got {list(array.shape)}"
        )
    return array, names


def masks_of(arrays: Arrays, num_nodes: int) -> Masks | None:
    """Masks of the three splits, from masks or from lists of nodes; None where there are none.

    Raises:
        DataError: one or two of them are absent, or one does not fit the nodes.
    """
    found = [_split(arrays, names, num_nodes) for names in SPLITS]
    absent = [names[0] for names, mask in zip(SPLITS, found, strict=True) if mask is None]
    train, val, test = found
    if train is None or val is None or test is None:
        if len(absent) == len(SPLITS):
            return None
        raise DataError(
            f"{arrays.where}: a split is there, but not for {' and '.join(absent)}; give train_mask, "
            "val_mask and test_mask, or none of them"
        )
    return train, val, test


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


def _edges(arrays: Arrays) -> tuple[np.ndarray, Any]:
    """Edges, and weights where an adjacency matrix brings them."""
    if (name := arrays.find(EDGES)) is not None:
        edges = arrays.take([name])
        return edges_of(edges, f"{arrays.where}: {name}", one_a_row=name != "edge_index"), None
    for first, second in ENDS:
        if arrays.find([first]) and arrays.find([second]):
            source, target = (as_integers(arrays.take([name]), name).numpy() for name in (first, second))
            if source.shape != target.shape or source.ndim != 1:
                raise DataError(f"{arrays.where}: {first} and {second} differ in shape")
            return np.stack([source, target]), None
    if (matrix := arrays.take(["adj_t", "adj"])) is not None:
        transposed = "adj_t" in arrays.taken
        matrix = _scipy(matrix, arrays.where)
        return sparse_edges(matrix.T if transposed else matrix)
    names = ", ".join(map(shown, arrays.content)) or "nothing"
    raise DataError(
        f"{arrays.where}: it holds {shown(names)}, but no edges; give them as edge_index [2, num_edges], "
        "or as row and col"
    )


def _scipy(matrix: Any, where: str) -> sp.spmatrix:
    """A SciPy matrix from an adjacency: sparse tensors and matrices."""
    if isinstance(matrix, Tensor) and matrix.layout != torch.strided:
        return scipy_of(matrix)
    if not sp.issparse(matrix):
        raise DataError(f"{where}: the adjacency is no sparse matrix; give edge_index [2, num_edges] instead")
    return matrix


def _num_nodes(arrays: Arrays, features: Any, labels: Any, edge_index: np.ndarray) -> int:
    """Rows of the features or labels; without them a number in the file, or the largest id plus one."""
    said = arrays.take(_SIZES)
    arrays.taken.update(_SIZES)
    rows = next((int(array.shape[0]) for array in (features, labels) if array is not None), None)
    if said is None:
        return largest_id(edge_index) + 1 if rows is None else rows
    number = as_integers(said if isinstance(said, Tensor) else np.asarray(said), "num_nodes")
    if number.numel() != 1 or int(number) < 0 or (rows is not None and int(number) != rows):
        there = "" if rows is None else f", and there are rows for {rows:,}"
        said_text = shown(", ".join(map(str, number.flatten().tolist())))
        raise DataError(f"{arrays.where}: num_nodes says {said_text}{there}; mend one of them")
    return int(number)


def _split(arrays: Arrays, names: tuple[str, ...], num_nodes: int) -> Tensor | None:
    """Mask of a split, ``[num_nodes]`` or ``[num_nodes, num_splits]``; None where there is none."""
    if (name := arrays.find(form.format(name) for form in _MASK_NAMES for name in names)) is not None:
        return _mask(arrays.take([name]), f"{arrays.where}: {name}", num_nodes, a_row=name.endswith("s"))
    name = arrays.find(form.format(name) for form in _INDEX_NAMES for name in names)
    if name is None:
        return None
    given, what = arrays.take([name]), f"{arrays.where}: {name}"
    kind = getattr(given, "dtype", None)
    if kind in (torch.bool, np.dtype(bool)):  # a mask under an index's name
        return _mask(given, what, num_nodes, a_row=False)
    return mask_of(given, what, num_nodes)


def _mask(given: Any, what: str, num_nodes: int, *, a_row: bool) -> Tensor:
    """Mask of one split, or of one a column; ``a_row``: files have a split a row."""
    mask = as_tensor(given, what)
    if mask.dim() != 2:
        return as_mask(mask, what, num_nodes)
    if (a_row and mask.shape[1] == num_nodes) or mask.shape[0] != num_nodes:
        mask = mask.T
    return torch.stack([as_mask(column, what, num_nodes) for column in mask.T], dim=1)
