"""Graphs that a Python program holds as objects of other packages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from gnnpipe.config.features import DEGREE, LAPLACIAN
from gnnpipe.errors import DataError, check_choice, did_you_mean, shown
from gnnpipe.graph.convert import as_tensor
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.labels import named_classes
from gnnpipe.graph.sources.raw import RawGraph, one_column_note
from gnnpipe.graph.splits import MASKS, SPLIT_WORDS, Masks


def of_pyg(data: Any, name: str) -> RawGraph:
    """The fields of a torch_geometric Data that training uses, and a note that names the others.

    Raises:
        DataError: it is another kind of object, or has no edges, or some of the masks only.
    """
    import torch_geometric.data

    if not isinstance(data, torch_geometric.data.Data):
        raise DataError(
            f"data: an object of type {type(data).__name__} can't be used; give a torch_geometric Data such "
            "as the first of a Dataset, dataset[0]"
        )
    if "edge_index" not in data:
        sparse = "; its adj_t is not read: set data.edge_index to them" if "adj_t" in data else ""
        raise DataError(f"dataset: {name} has no edges (edge_index), which training needs{sparse}")
    of_edges = {key: data[key] for key in ("edge_attr", "edge_type") if _is_of_edges(data, key)}
    used = {"x", "y", "edge_index", "edge_weight", "num_nodes", *MASKS, *of_edges}
    unused = sorted(set(data.keys()) - used)
    notes = (f"{name}: not used: {', '.join(unused)}",) if unused else ()
    notes = (*notes, *one_column_note(of_edges.get("edge_attr"), weighted="edge_weight" in data))
    features, labels, weight, num_nodes = (data.get(key) for key in ("x", "y", "edge_weight", "num_nodes"))
    masks = _shipped_masks(data, name)
    return RawGraph(data.edge_index, features, labels, masks, notes, weight, num_nodes, name=name, **of_edges)


def of_scipy(adjacency: Any, rows: str) -> tuple[np.ndarray, np.ndarray]:
    """``edge_index`` and the entries of a sparse matrix.

    Args:
        adjacency: the matrix.
        rows: side of an edge that its rows stand for: sources or targets.

    Raises:
        DataError: it is no sparse matrix, or not square.
        ConfigError: another word.
    """
    check_choice("rows", rows, ("sources", "targets"))
    if not sp.issparse(adjacency):
        raise DataError(
            f"adjacency: an object of type {type(adjacency).__name__} can't be used; give a sparse matrix of "
            "SciPy"
        )
    if adjacency.shape[0] != adjacency.shape[1]:
        raise DataError(
            f"adjacency: expected a square matrix, got {adjacency.shape[0]} x {adjacency.shape[1]}"
        )
    matrix = sp.coo_matrix(adjacency)
    ends = (matrix.row, matrix.col) if rows == "sources" else (matrix.col, matrix.row)
    return np.stack(ends).astype(np.int64), matrix.data


@dataclass(frozen=True)
class EdgeKeys:
    """Attributes of the edges of a networkx graph that are used."""

    weight: str | None = None
    """Their weight; None if every edge counts 1."""
    features: tuple[str, ...] = ()
    """Their features, each a number."""
    type: str | None = None
    """Their type: a whole number, or text; None if they have none."""

    @property
    def used(self) -> set[Any]:
        """All of them."""
        return {self.weight, self.type, *self.features} - {None}


def of_networkx(
    graph: Any, label: str, features: str | Sequence[str], split: str | None, keys: EdgeKeys
) -> RawGraph:
    """The content of a networkx graph; see `Graph.from_networkx`.

    Raises:
        DataError: it is another kind of object, an attribute is absent, or has a value that can't be used.
    """
    _check_networkx(graph)
    nodes = _Nodes(list(graph), [values for _, values in graph.nodes(data=True)])
    number = {node: index for index, node in enumerate(nodes.names)}
    edges = list(graph.edges(data=True))
    ends = np.array([(number[source], number[target]) for source, target, _ in edges], dtype=np.int64)
    ends = ends.reshape(-1, 2).T
    weights = None if keys.weight is None else _numbers(edges, keys.weight, "weight")
    attr = [_numbers(edges, key, "edge_features") for key in keys.features]
    types, type_names = (None, ()) if keys.type is None else _types(edges, keys.type)
    columns = [weights, np.stack(attr, axis=1) if attr else None, types]
    if not graph.is_directed():
        loop = ends[0] == ends[1]  # its own reverse
        ends = np.concatenate([ends, ends[::-1, ~loop]], axis=1)
        columns = [None if column is None else np.concatenate([column, column[~loop]]) for column in columns]
    weights, edge_attr, edge_type = columns
    labels, class_names = nodes.labels(label)
    names = nodes.feature_names(features)
    return RawGraph(
        ends,
        nodes.features(names) if names else None,
        labels,
        None if split is None else nodes.masks(split),
        _unused_attributes(nodes.attributes, {label, split, *names}, edges, keys),
        weights,
        len(nodes.names),
        _ids(nodes.names),
        class_names,
        str(graph.name or ""),
        edge_attr=edge_attr,
        edge_type=edge_type,
        edge_type_names=type_names,
    )


def _unused_attributes(
    nodes: Sequence[Mapping[str, Any]],
    used: set[Any],
    edges: list[tuple[Any, Any, dict[str, Any]]],
    keys: EdgeKeys,
) -> tuple[str, ...]:
    """Notes that name the attributes of nodes and edges that are not used."""
    of_nodes = sorted({str(key) for attributes in nodes for key in attributes if key not in used})
    of_edges = sorted({str(key) for _, _, attributes in edges for key in attributes if key not in keys.used})
    hint = " (weight= takes one as the edges' weight)" if keys.weight is None else ""
    return (
        *([f"nodes: not used: {_first(of_nodes)} (features= takes some)"] if of_nodes else []),
        *([f"edges: not used: {_first(of_edges)}{hint}"] if of_edges else []),
    )


def _first(names: list[str]) -> str:
    """Names for a note, the first ones of many."""
    more = f" and {len(names) - 12:,} more" if len(names) > 12 else ""
    return ", ".join(shown(name, 40) for name in names[:12]) + more


def _is_of_edges(data: Any, key: str) -> bool:
    """Whether a field of a torch_geometric Data holds numbers for each edge, in rows."""
    value = data.get(key)
    if not isinstance(value, Tensor) or value.is_complex() or value.dim() not in (1, 2):
        return False
    return len(value) == data.edge_index.shape[-1] and value[:1].numel() > 0


def _shipped_masks(data: Any, name: str) -> Masks | None:
    """The three masks of a torch_geometric Data; None if it has none, DataError if it has some of them."""
    present = [mask for mask in MASKS if mask in data]
    if not present:
        return None
    if len(present) < len(MASKS):
        absent = next(mask for mask in MASKS if mask not in present)
        raise DataError(f"dataset: {name} has {present[0]}, but no {absent}; all three are needed")
    train, val, test = (as_tensor(data[mask], mask) for mask in MASKS)
    return train, val, test


def _check_networkx(graph: Any) -> None:
    try:
        import networkx
    except ImportError:
        raise DataError("graph: networkx is not installed; pip install networkx") from None
    if not isinstance(graph, networkx.Graph):
        raise DataError(
            f"graph: an object of type {type(graph).__name__} can't be used; give a graph of networkx"
        )


def _numbers(edges: list[tuple[Any, Any, Mapping[str, Any]]], key: str, what: str) -> np.ndarray:
    """float64 ``[num_edges]``: an attribute of the edges that is a number."""
    found = np.empty(len(edges), dtype=np.float64)
    for index, (source, target, attributes) in enumerate(edges):
        value = attributes.get(key)
        if not isinstance(value, Real):
            wrong = "has none" if value is None else f"has '{shown(value)}', which is no number"
            hint = did_you_mean(str(key), map(str, attributes)) or "; give every edge one"
            raise DataError(f"{what}: edge {shown((source, target))} {wrong} as '{shown(key)}'{hint}")
        found[index] = float(value)
    return found


def _types(edges: list[tuple[Any, Any, Mapping[str, Any]]], key: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Types of edges as numbers, and the names of those that are text."""
    values = [value for *_, attributes in edges if isinstance(value := attributes.get(key), str)]
    if not values or len(values) < len(edges):
        return _numbers(edges, key, "edge_type"), ()
    names = sorted(set(values))
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[value] for value in values], dtype=np.int64), tuple(names)


@dataclass(frozen=True)
class _Nodes:
    """Nodes of a networkx graph."""

    names: list[Any]
    attributes: list[Mapping[str, Any]]
    """Of each node."""

    def column(self, key: str, what: str) -> list[Any]:
        """The values of an attribute, node by node; None where it is absent, NaN or NaT."""
        if not any(key in values for values in self.attributes):
            known = sorted({str(name) for values in self.attributes for name in values})
            listed = f"nodes have {', '.join(known[:20])}" if known else "nodes have no attributes"
            hint = did_you_mean(str(key), known)
            listed = f"{hint} {listed.capitalize()}" if hint else f"; {listed}"
            raise DataError(f"{what}: no node has an attribute '{shown(key)}'{listed}")
        found = (values.get(key) for values in self.attributes)
        return [None if isinstance(value, Real) and math.isnan(value) else value for value in found]

    def labels(self, key: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Labels as numbers, NaN for none; and the names of classes that are text."""
        values = self.column(key, "label")
        known = [value for value in values if value is not None]
        if known and all(isinstance(value, str) for value in known):
            return named_classes(values)
        return self._numbers(values, key, "label"), ()

    def feature_names(self, features: str | Sequence[str]) -> list[str]:
        """Attributes that are features; none where features are to be made."""
        if not isinstance(features, str):
            return list(features) if isinstance(features, Sequence) else [features]
        made = features == DEGREE or features.startswith(f"{LAPLACIAN}:")
        return [] if made and not any(features in values for values in self.attributes) else [features]

    def features(self, names: Iterable[str]) -> np.ndarray:
        """float64 ``[num_nodes, num_features]``; raises DataError where a node lacks an attribute."""
        columns = []
        for name in names:
            values = self.column(name, "features")
            if None in values:
                node = self.names[values.index(None)]
                raise DataError(
                    f"features: node {shown(node)} has no '{shown(name)}', which others have; give every "
                    "node one"
                )
            columns.append(self._numbers(values, name, "features"))
        return np.concatenate(columns, axis=1)

    def masks(self, key: str) -> Masks:
        """The three masks, from an attribute that names the split; raises DataError for another word."""
        masks = np.zeros((3, len(self.names)), dtype=bool)
        for index, value in enumerate(self.column(key, "split")):
            number = -1 if value is None else SPLIT_WORDS.get(str(value).lower())
            if number is None:
                raise DataError(
                    f"split: '{shown(value)}' of node {shown(self.names[index])} can't be used; use train, "
                    "val or test"
                )
            if number >= 0:
                masks[number, index] = True
        train, val, test = (as_tensor(mask, "split") for mask in masks)
        return train, val, test

    def _numbers(self, values: list[Any], key: str, what: str) -> np.ndarray:
        """float64 ``[num_nodes, num_columns]`` of numbers, or of lists of equally many; NaN for None."""
        width = next((np.size(value) for value in values if value is not None), 1)
        found = np.full((len(values), width), np.nan)
        for index, value in enumerate(values):
            if value is None:
                continue
            row = np.asarray(value)
            if row.dtype.kind not in "biuf" or row.size != width:
                raise DataError(
                    f"{what}: '{shown(value)}' of node {shown(self.names[index])} ('{shown(key)}') can't be "
                    f"used; expected {'a number' if width == 1 else f'{width} numbers'}, as the others have"
                )
            found[index] = row.ravel()
        return found


def _ids(nodes: list[Any]) -> NodeIds | None:
    """The names of the nodes; None if they are 0, 1, 2 and so on."""
    if all(isinstance(node, Integral) and abs(int(node)) < 2**63 for node in nodes):
        numbers = np.array([int(node) for node in nodes], dtype=np.int64)
        return None if np.array_equal(numbers, np.arange(len(nodes))) else NodeIds(numbers)
    texts = [str(node) for node in nodes]
    # 1 and "1" are two nodes
    return NodeIds.of_text(texts if len(set(texts)) == len(texts) else [repr(node) for node in nodes])
