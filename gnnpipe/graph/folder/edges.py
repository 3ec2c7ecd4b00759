"""A source's edges as blocks of keys, read without ever holding all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.files.spool import release
from gnnpipe.graph.convert import as_integers
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.folder.records import ATTR, record_type, records_of
from gnnpipe.graph.sources.raw import RawGraph

BLOCK = 1 << 20
"""Edges that are handled at once."""
# Columns of features up to which a block has that many edges.
_FEW = 16
MOST_NODES = 2**31
"""Most nodes: the numbers of two have to fit into a key of 63 bits."""


@dataclass(frozen=True)
class Keys:
    """Edges as keys: sorted keys are edges in the order of compressed rows.

        key = target << bits | source

    Where reverses are added, one more bit at the end tells them (1) from edges (0).
    """

    key: np.ndarray
    """int64 ``[num_edges]``."""
    weight: np.ndarray | None = None
    """float64 or float32 ``[num_edges]``; None without weights."""
    record: np.ndarray | None = None
    """Features and types of edges as `record_type` has them, ``[num_edges]``; None if they have neither."""

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Its columns, by name."""
        named = (("key", self.key), ("weight", self.weight), ("record", self.record))
        return {name: column for name, column in named if column is not None}

    def taken(self, index: np.ndarray | slice) -> Keys:
        """Some of these edges."""
        return Keys(**{name: column[index] for name, column in self.columns.items()})


@dataclass(frozen=True)
class Edges:
    """A block of edges as they were given."""

    source: np.ndarray
    """int64 ``[num_edges]``."""
    target: np.ndarray
    """int64 ``[num_edges]``."""
    weight: np.ndarray | None
    """Weights, as given."""
    attr: np.ndarray | None = None
    """Features, as given."""
    type: np.ndarray | None = None
    """Types, as given."""


def largest_id(raw: RawGraph) -> int:
    """The largest node id of all edges; -1 without edges."""
    if isinstance(raw.edge_index, Csr):
        return raw.edge_index.num_cols - 1
    ends = [max(int(b.source.max()), int(b.target.max())) for b in given_edges(raw) if len(b.source)]
    return max(ends, default=-1)


def num_given(raw: RawGraph) -> int:
    """Number of edges of the source; raises DataError for a shape that edges don't have."""
    edge_index = raw.edge_index
    if isinstance(edge_index, Csr):
        if raw.weight is not None or edge_index.value.numel() == 0:
            return edge_index.num_entries
        if edge_index.value.stride()[0] == 0:
            return edge_index.num_entries * int(edge_index.value[0])
        return int(edge_index.value.sum(dtype=torch.float64))
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise DataError(f"edge_index: expected shape [2, num_edges], got {list(edge_index.shape)}")
    if raw.weight is not None and tuple(raw.weight.shape) != (edge_index.shape[1],):
        raise DataError(
            f"weight: expected one for each of {edge_index.shape[1]:,} edges, got {list(raw.weight.shape)}"
        )
    return int(edge_index.shape[1])


def num_entries(raw: RawGraph) -> int:
    """Number of rows of what edges have: the entries of an adjacency that is ready, else the edges."""
    return raw.edge_index.num_entries if isinstance(raw.edge_index, Csr) else num_given(raw)


def given_edges(raw: RawGraph) -> Iterator[Edges]:
    """All edges, block by block; raises DataError where an end is no whole number."""
    block, others = _block(raw), [raw.edge_attr, raw.edge_type]
    if isinstance(raw.edge_index, Csr):
        yield from _unfolded(raw.edge_index, others, block, weighted=raw.weight is not None)
        return
    edge_index = numpy_of(raw.edge_index)
    for start in range(0, edge_index.shape[1], block):
        chosen = slice(start, start + block)
        ends = _whole(edge_index[:, chosen])
        release(edge_index)
        yield Edges(ends[0], ends[1], *(_copied(column, chosen) for column in (raw.weight, *others)))


def _block(raw: RawGraph) -> int:
    """Edges that are handled at once: fewer where each has many features."""
    columns = 0 if raw.edge_attr is None else int(np.prod(raw.edge_attr.shape[1:]))
    return max(1, BLOCK * _FEW // max(_FEW, columns))


def _copied(column: Tensor | np.ndarray | None, chosen: slice) -> np.ndarray | None:
    """Some rows of a column, if there is one; a map keeps no pages."""
    if column is None:
        return None
    rows = numpy_of(column)
    some = np.array(rows[chosen])
    release(rows)
    return some


def _whole(ends: np.ndarray) -> np.ndarray:
    """A block of edges as int64, copied: the pages of a mapped file are given back."""
    if ends.dtype in (np.int64, np.int32):
        return np.array(ends, dtype=np.int64, order="C")
    return as_integers(np.array(ends), "edge_index").numpy()


def _unfolded(
    adjacency: Csr, others: list[Tensor | np.ndarray | None], block: int, *, weighted: bool
) -> Iterator[Edges]:
    """The edges that an adjacency's entries stand for: parallel ones are counted by its values.

    Args:
        adjacency: the entries.
        others: features and types of the entries; each is then one edge.
        block: entries that are handled at once.
        weighted: whether values are weights.
    """
    rowptr = adjacency.rowptr.numpy()
    for start in range(0, adjacency.num_entries, block):
        stop = min(start + block, adjacency.num_entries)
        # rows that own entries of the block, and how many of them
        first, last = np.searchsorted(rowptr, [start, stop - 1], side="right") - 1
        shares = np.diff(np.clip(rowptr[first : last + 2], start, stop))
        target = np.repeat(np.arange(first, last + 1, dtype=np.int64), shares)
        source = adjacency.col[start:stop].numpy().astype(np.int64)
        value = adjacency.value[start:stop].numpy()
        if weighted or any(column is not None for column in others):
            attr, types = (_copied(column, slice(start, stop)) for column in others)
            yield Edges(source, target, value if weighted else None, attr, types)
        else:
            times = value.astype(np.int64)
            yield Edges(np.repeat(source, times), np.repeat(target, times), None)


class KeyStream:
    """A source's edges as keys, block by block; can be gone through several times.

    Args:
        raw: the source.
        num_nodes: number of nodes; each end of an edge is below it.
        undirected: whether the reverses of all edges follow behind the edges.
        loops: whether edges from a node to itself are among them.

    Raises:
        DataError: features or types are not one row an edge; or, while it is gone through, an end names no
            node, or a weight or feature is not finite.
    """

    def __init__(self, raw: RawGraph, num_nodes: int, *, undirected: bool, loops: bool) -> None:
        self._raw, self._num_nodes, self._undirected, self._loops = raw, num_nodes, undirected, loops
        self.bits = max(1, (num_nodes - 1).bit_length())
        """Bits of a node in a key."""
        self.end = 1 << (2 * self.bits + undirected)
        """All keys are below it."""
        self.num_loops = 0
        """Edges from a node to itself, once all were gone through."""
        self.num_rounded = 0
        """Weights that float32 does not hold exactly, once all were gone through."""
        self.num_rounded_features = 0
        """Features of edges that float32 does not hold exactly, likewise."""
        self.record = record_type(raw, num_entries(raw))
        """Type of the records that go with the keys; None for none."""

    @property
    def record_bytes(self) -> int:
        """Bytes of the record of an edge."""
        return 0 if self.record is None else self.record.itemsize

    @property
    def edge_dim(self) -> int:
        """Columns of the edges' features."""
        has_features = self.record is not None and ATTR in (self.record.names or ())
        return int(self.record[ATTR].shape[0]) if self.record is not None and has_features else 0

    def __call__(self) -> Iterator[Keys]:
        """Go through all edges."""
        self.num_loops = self.num_rounded = self.num_rounded_features = 0
        yield from self._pass(backward=False)
        if self._undirected:
            yield from self._pass(backward=True)

    def _pass(self, *, backward: bool) -> Iterator[Keys]:
        start = 0
        for block in given_edges(self._raw):
            self._check(block, start)
            start += len(block.source)
            yield self._keys(block, start - len(block.source), backward=backward)

    def _keys(self, block: Edges, start: int, *, backward: bool) -> Keys:
        source, target = (block.target, block.source) if backward else (block.source, block.target)
        is_loop = source == target
        num_loops = int(np.count_nonzero(is_loop))
        self.num_loops += 0 if backward else num_loops
        key = (target << self.bits) | source
        if self._undirected:
            key = (key << 1) | int(backward)
        record = None
        if self.record is not None:
            record, num_rounded = records_of(self.record, block.attr, block.type, start)
            self.num_rounded_features += 0 if backward else num_rounded
        keys = Keys(key, block.weight, record)
        return keys if self._loops or not num_loops else keys.taken(~is_loop)

    def _check(self, block: Edges, start: int) -> None:
        for ends, what in ((block.source, "source"), (block.target, "target")):
            if len(ends) and (int(ends.min()) < 0 or int(ends.max()) >= self._num_nodes):
                at = int(np.flatnonzero((ends < 0) | (ends >= self._num_nodes))[0])
                raise DataError(
                    f"edge_index: the {what} of edge {start + at} (counted from 0) is node {int(ends[at])}, "
                    f"but there are {self._num_nodes:,} nodes (0 to {self._num_nodes - 1}); number the nodes "
                    "from 0, or add the rows of the missing ones"
                )
        if block.weight is not None:
            self.num_rounded += _check_weight(block.weight, start)


def _check_weight(weight: np.ndarray, start: int) -> int:
    """Check a block of weights, the first of which is edge ``start``'s; return how many will be rounded."""
    if weight.dtype.kind not in "biuf":
        raise DataError(f"weight: it holds {weight.dtype}; real numbers are needed")
    with np.errstate(over="ignore"):
        rounded = weight.astype(np.float32)
    bad = ~np.isfinite(rounded)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"weight: that of edge {start + at} (counted from 0) is {weight[at]}, which is not finite in "
            "float32; leave the edge out, or mend its weight"
        )
    return 0 if weight.dtype == np.float32 else int(np.count_nonzero(rounded != weight))


def numpy_of(values: Tensor | np.ndarray) -> np.ndarray:
    """The array of a tensor on the CPU; an array as it is."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
