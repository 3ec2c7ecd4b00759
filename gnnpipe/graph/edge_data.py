"""EdgeData: features and types of edges, in the order of an adjacency's entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.files.spool import large_array
from gnnpipe.graph.convert import as_integers, as_tensor, exact_float32, number_text, without_single_column

# Edges that are checked at a time, as features of edges may be mapped from disk.
_BLOCK = 2**20


@dataclass(frozen=True)
class EdgeData:
    """Features and types of edges."""

    attr: Tensor | None = None
    """float32 ``[num_edges, edge_dim]``; None if edges have no features."""
    type: Tensor | None = None
    """int64 ``[num_edges]``, from 0 on; None if edges have no types."""

    @property
    def exists(self) -> bool:
        """Whether edges have features or types, so that parallel ones are to be told apart."""
        return self.attr is not None or self.type is not None

    @property
    def edge_dim(self) -> int:
        """Columns of the features; 0 if there are none."""
        return 0 if self.attr is None else self.attr.shape[1]

    @property
    def num_types(self) -> int:
        """The largest type plus one; 0 if edges have no types."""
        return 0 if self.type is None or not self.type.numel() else int(self.type.max()) + 1

    def taken(self, index: Tensor) -> EdgeData:
        """Those of some edges, in the order of ``index``."""
        return EdgeData(*(None if rows is None else rows[index] for rows in (self.attr, self.type)))

    def sorted(self, order: Tensor) -> EdgeData:
        """Those of all edges in another order; large ones in a file, as theirs may be."""
        return EdgeData(*(None if rows is None else _moved(rows, order) for rows in (self.attr, self.type)))

    def words(self) -> str:
        """Its sizes in words, as in ``8 features and 3 types``."""
        found = [
            f"{count:,} {name}{'s' if count != 1 else ''}"
            for count, name in ((self.edge_dim, "feature"), (self.num_types, "type"))
            if count
        ]
        return " and ".join(found)


NO_EDGE_DATA = EdgeData()


def edge_data_of(attr: Any, type_: Any, num_edges: int) -> tuple[EdgeData, tuple[str, ...]]:
    """Features and types of edges from a user's numbers, and notes about the conversion.

    Args:
        attr: ``[num_edges]`` or ``[num_edges, edge_dim]``; float32 that is mapped from disk stays so. None
            if edges have none.
        type_: whole numbers from 0 on, ``[num_edges]``; None if edges have none.
        num_edges: number of edges.

    Raises:
        DataError: an array has another shape, a feature is not finite, or a type is no whole number from 0.
    """
    features, notes = (None, ()) if attr is None else _as_attr(attr, num_edges)
    return EdgeData(features, None if type_ is None else _as_type(type_, num_edges)), notes


def check_edge_data(data: EdgeData, num_edges: int, names: tuple[str, ...] = ()) -> None:
    """Raise DataError unless there are features and types for each edge, finite and not below 0; and as many
    ``names`` as types, if there are any."""
    if names and data.num_types > len(names):
        raise DataError(f"edge_type_names: {len(names)} names for {data.num_types} types; name each type")
    for name, rows, dtype, dims in (
        ("edge_attr", data.attr, torch.float32, 2),
        ("edge_type", data.type, torch.int64, 1),
    ):
        if rows is not None and (rows.dtype != dtype or rows.dim() != dims or len(rows) != num_edges):
            wanted = f"{str(dtype)[6:]} [{num_edges}{', edge_dim' if dims == 2 else ''}]"
            raise DataError(
                f"{name}: expected {wanted}, a row for each entry of the adjacency, got "
                f"{str(rows.dtype)[6:]} {list(rows.shape)}"
            )
    if data.attr is not None:
        _check_columns(data.attr)
        _check_finite(data.attr, data.attr)
    for start, types in _blocks(data.type):
        if int(types.min()) < 0:
            edge = start + int((types < 0).nonzero()[0])
            raise DataError(
                f"edge_type: {int(types.min())} is below 0, first at edge {edge}; number the types from 0 on"
            )


def renumbered(types: Tensor, old: tuple[str, ...], new: tuple[str, ...]) -> Tensor:
    """Types by their places among other names, as a new tensor; raises DataError for names that are new."""
    number = {name: index for index, name in enumerate(new)}
    if unknown := [name for name in old if name not in number]:
        raise DataError(
            f"edge_type: '{shown(unknown[0])}' is no type that is known; these are: "
            f"{shown(', '.join(new), 400)}"
        )
    place = torch.tensor([number[name] for name in old])
    result = torch.from_numpy(large_array("int64", tuple(types.shape)))
    for start, block in _blocks(types):
        result[start : start + len(block)] = place[block]
    return result


def _as_attr(values: Any, num_edges: int) -> tuple[Tensor, tuple[str, ...]]:
    given = as_tensor(values, "edge_attr")
    given = given.unsqueeze(1) if given.dim() == 1 else given
    if given.dim() != 2 or len(given) != num_edges:
        raise DataError(
            f"edge_attr: expected shape [{num_edges}, edge_dim], a row for each edge, got {list(given.shape)}"
        )
    _check_columns(given)
    attr, notes = exact_float32(given, "edge_attr")
    _check_finite(attr, given)
    return attr, notes


def _as_type(values: Any, num_edges: int) -> Tensor:
    given = without_single_column(as_tensor(values, "edge_type"))
    if given.shape != (num_edges,):
        raise DataError(
            f"edge_type: expected shape [{num_edges}], one number for each edge, got {list(given.shape)}"
        )
    return as_integers(given, "edge_type")


def _moved(rows: Tensor, order: Tensor) -> Tensor:
    result = torch.from_numpy(large_array(rows.numpy().dtype, (len(order), *rows.shape[1:])))
    for start, index in _blocks(order):
        torch.index_select(rows, 0, index, out=result[start : start + len(index)])
    return result


def _check_columns(attr: Tensor) -> None:
    if not attr.shape[1]:
        raise DataError("edge_attr: there are no columns; give one at least, or leave edge_attr out")


def _check_finite(attr: Tensor, given: Tensor) -> None:
    for start, rows in _blocks(attr):
        bad = ~torch.isfinite(rows)
        if bad.any():
            edge, column = (bad.nonzero()[0] + torch.tensor([start, 0])).tolist()
            raise DataError(
                f"edge_attr: {number_text(given[edge, column])} of edge {edge}, column {column}, is not "
                "finite as float32; replace it, or leave the edge out"
            )


def _blocks(rows: Tensor | None) -> Iterator[tuple[int, Tensor]]:
    """Blocks of consecutive rows, and the number of rows in front of each; none of nothing."""
    if rows is None or not len(rows):
        return
    size = max(1, _BLOCK // max(1, rows[:1].numel()))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]
