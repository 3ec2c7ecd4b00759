"""Records: features and types of edges, which go with their edges while these are sorted."""

from __future__ import annotations

from typing import Any

import numpy as np

from gnnpipe.errors import DataError
from gnnpipe.graph.convert import as_integers
from gnnpipe.graph.sources.raw import RawGraph

ATTR, TYPE = "edge_attr", "edge_type"
"""Fields of a record, and the files of a graph folder that they go to."""


def record_type(raw: RawGraph, num_edges: int) -> np.dtype[Any] | None:
    """The NumPy type of a source's records; None where edges have neither features nor types.

    Raises:
        DataError: there are more or fewer rows than edges, or of another shape.
    """
    fields: list[tuple[Any, ...]] = []
    if raw.edge_attr is not None:
        shape = tuple(raw.edge_attr.shape)
        if len(shape) not in (1, 2) or shape[0] != num_edges or shape[1:] == (0,):
            raise DataError(
                f"{ATTR}: expected [{num_edges}, edge_dim], a row for each edge, got {list(shape)}"
            )
        fields.append((ATTR, "<f4", shape[1:] or (1,)))
    if raw.edge_type is not None:
        shape = tuple(raw.edge_type.shape)
        if shape not in ((num_edges,), (num_edges, 1)):
            raise DataError(f"{TYPE}: expected [{num_edges}], one number for each edge, got {list(shape)}")
        fields.append((TYPE, "<i8"))
    return np.dtype(fields) if fields else None


def records_of(
    kind: np.dtype[Any], attr: np.ndarray | None, types: np.ndarray | None, start: int
) -> tuple[np.ndarray, int]:
    """The records of a block of edges, and how many of their numbers are rounded to float32.

    Args:
        kind: as `record_type` gives it.
        attr: rows of features as given; None if edges have none.
        types: types as given; None if edges have none.
        start: number of the block's first edge, for messages.

    Raises:
        DataError: a feature is no finite number, or a type no whole number from 0 on.
    """
    given = attr if attr is not None else types
    found, num_rounded = np.empty(0 if given is None else len(given), kind), 0
    if attr is not None:
        found[ATTR], num_rounded = _features(attr.reshape(len(attr), -1), start)
    if types is not None:
        found[TYPE] = _types(types.reshape(-1), start)
    return found, num_rounded


def _features(attr: np.ndarray, start: int) -> tuple[np.ndarray, int]:
    if attr.dtype.kind not in "biuf":
        raise DataError(f"{ATTR}: it holds {attr.dtype}; real numbers are needed")
    with np.errstate(over="ignore"):
        rounded = attr.astype(np.float32)
    bad = np.argwhere(~np.isfinite(rounded))
    if len(bad):
        edge, column = bad[0].tolist()
        raise DataError(
            f"{ATTR}: column {column} of edge {start + edge} (counted from 0) is {attr[edge, column]}, which "
            "is not finite in float32; leave the edge out, or mend it"
        )
    exact = attr.dtype in (np.float32, np.float16, bool)
    return rounded, 0 if exact else int(np.count_nonzero(rounded != attr))


def _types(types: np.ndarray, start: int) -> np.ndarray:
    numbers = as_integers(types, TYPE).numpy()
    if len(numbers) and int(numbers.min()) < 0:
        edge = int(np.flatnonzero(numbers < 0)[0])
        raise DataError(
            f"{TYPE}: that of edge {start + edge} (counted from 0) is {int(numbers[edge])}; number the types "
            "from 0 on"
        )
    return numbers
