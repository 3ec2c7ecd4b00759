"""The adjacency of a graph folder: entries are appended in order, and counted while they go by."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gnnpipe.files.npy import ArrayWriter, StoredArray
from gnnpipe.files.writing import remove
from gnnpipe.graph.folder.merge import Entries
from gnnpipe.graph.folder.records import TYPE
from gnnpipe.graph.folder.report import QUANTILES

_ROWS = 1 << 20
Counts = Literal["count", "weight"] | None


@dataclass(frozen=True)
class Counted:
    """Numbers that were counted while an adjacency was written."""

    num_entries: int
    """Number of entries."""
    num_edges: int
    """Number of different edges."""
    num_written: int
    """Edges that the entries stand for: more than there are entries where these count parallel edges."""
    directed: bool
    """Whether there is an edge without its reverse."""
    num_isolated: int
    """Nodes without any edge; a self loop is none."""
    in_degree: tuple[int, ...]
    """Numbers of entries in a row, at each of `QUANTILES`."""
    histogram: tuple[int, ...]
    """Numbers of nodes with 0, 1, 2 to 3, 4 to 7 and so on entries."""
    homophily: float | None
    """Share of entries between nodes of one class; None where no entry has both classes known."""
    weights: tuple[float, float] | None
    """Smallest and largest weight; None without weights or entries."""
    num_types: int
    """The largest type of an edge plus one; 0 without types."""


class AdjacencyWriter:
    """Writes ``rowptr``, ``col``, ``weight`` or ``count``, and what edges have beside weights.

    Args:
        folder: folder of the files.
        num_nodes: number of nodes.
        bits: bits of a node in a key.
        most_entries: bound of the number of entries, which decides on the type of ``col``.
        classes: int32 ``[num_nodes]``, -1 for none; None without classes.
    """

    def __init__(
        self, folder: Path, num_nodes: int, bits: int, most_entries: int, classes: np.ndarray | None
    ) -> None:
        self._folder, self._bits, self._classes = folder, bits, classes
        self._wide = np.int64 if most_entries >= 2**31 else np.int32
        self._degree = np.zeros(num_nodes, dtype=self._wide)
        self._connected = np.zeros(num_nodes, dtype=bool)
        self._num_edges = self._num_written = self._num_known = self._num_alike = 0
        self._weights: tuple[float, float] | None = None
        self._symmetry = _Symmetry(bits)
        self._stack = ExitStack()
        self._col = self._writer("col", self._wide)
        self._value: ArrayWriter | None = None
        self._of_edges: dict[str, ArrayWriter] = {}
        self._num_types = 0

    def _writer(self, name: str, dtype: Any, columns: tuple[int, ...] = ()) -> ArrayWriter:
        writer = ArrayWriter(self._folder / f"{name}.npy", dtype, columns)
        self._stack.callback(writer.close)
        return writer

    def write(self, entries: Iterable[Entries], counts: Counts) -> tuple[dict[str, StoredArray], Counted]:
        """Write all entries.

        Args:
            entries: in order, block by block.
            counts: file of the numbers of parallel edges, of edges without weights; None to drop them.

        Returns:
            The files by their names without ``.npy``, and what was counted.
        """
        with self._stack:
            for block in entries:
                if len(block.key):
                    self._append(block, counts)
            stored = {"col": self._col.finish()}
            stored |= {name: writer.finish() for name, writer in self._of_edges.items()}
            if self._value is not None:
                stored[self._value.path.stem] = self._value.finish()
            stored["rowptr"] = self._write_rowptr()
        counted = self._counted()
        apart = counted.num_edges == counted.num_entries or bool(self._of_edges)
        if counted.weights == (1.0, 1.0) and apart:
            remove(self._folder / "weight.npy")  # each edge counts 1, as without weights
            del stored["weight"]
            counted = replace(counted, weights=None)
        return stored, counted

    def _append(self, block: Entries, counts: Counts) -> None:
        target = block.key >> self._bits
        source = (block.key & ((1 << self._bits) - 1)).astype(np.int32)
        first, last = int(target[0]), int(target[-1])
        rows = self._degree[first : last + 1]
        np.add(rows, np.bincount(target - first), out=rows, casting="unsafe")
        between = source != target
        self._connected[source[between]] = True
        self._connected[target[between]] = True
        self._count_classes(source, target)
        self._append_values(block, counts)
        self._append_record(block.record)
        self._col.append(source)
        new = block.key if block.new is None else block.key[block.new]
        self._num_edges += len(new)
        self._symmetry.add(new)

    def _append_values(self, block: Entries, counts: Counts) -> None:
        self._num_written += len(block.key) if block.count is None else int(block.count.sum())
        values, name = self._values_of(block, counts)
        if values is None:
            return
        if self._value is None:
            self._value = self._writer(name, np.float32)
            self._value.fill(1.0, self._col.num_rows)
            if name == "weight" and self._col.num_rows:
                self._weights = (1.0, 1.0)
        self._value.append(values)
        if name == "weight":
            low, high = self._weights or (np.inf, -np.inf)
            self._weights = min(low, float(values.min())), max(high, float(values.max()))

    def _append_record(self, record: np.ndarray | None) -> None:
        if record is None:
            return
        for name in record.dtype.names or ():
            column = record[name]
            if name not in self._of_edges:
                self._of_edges[name] = self._writer(name, column.dtype, column.shape[1:])
            self._of_edges[name].append(column)
            if name == TYPE:
                self._num_types = max(self._num_types, int(column.max()) + 1)

    def _values_of(self, block: Entries, counts: Counts) -> tuple[np.ndarray | None, str]:
        """Weights or counts, None if nothing is to be written; and the name of their file."""
        if block.weight is not None or block.count is None or counts is None:
            return block.weight, "weight"
        # the file of counts is made when parallel edges turn up: all edges before were single
        is_needed = self._value is not None or bool((block.count > 1).any())
        return block.count if is_needed else None, counts

    def _count_classes(self, source: np.ndarray, target: np.ndarray) -> None:
        if self._classes is None:
            return
        of_source, of_target = self._classes[source], self._classes[target]
        known = (of_source >= 0) & (of_target >= 0)
        self._num_known += int(np.count_nonzero(known))
        self._num_alike += int(np.count_nonzero(known & (of_source == of_target)))

    def _write_rowptr(self) -> StoredArray:
        writer = self._writer("rowptr", np.int64)
        writer.append(np.zeros(1, dtype=np.int64))
        total = 0
        for start in range(0, len(self._degree), _ROWS):
            ends = total + np.cumsum(self._degree[start : start + _ROWS], dtype=np.int64)
            writer.append(ends)
            total = int(ends[-1])
        return writer.finish()

    def _counted(self) -> Counted:
        degree = np.sort(self._degree)
        at = [round(share * (len(degree) - 1)) for share in QUANTILES]
        # the first node of each kind: 1, 2, 4, 8 and so on up to above the largest degree
        edges = [0, *(1 << step for step in range(int(degree[-1]).bit_length() + 1))]
        ends = np.append(np.searchsorted(degree, edges[1:]), len(degree)) if degree[-1] else [len(degree)]
        return Counted(
            num_entries=self._col.num_rows,
            num_edges=self._num_edges,
            num_written=self._num_written,
            directed=not self._symmetry.holds,
            num_isolated=int(np.count_nonzero(~self._connected)),
            in_degree=tuple(int(degree[i]) for i in at),
            histogram=_trimmed(np.diff(ends, prepend=0).tolist()),
            homophily=self._num_alike / self._num_known if self._num_known else None,
            weights=self._weights,
            num_types=self._num_types,
        )


def _trimmed(counts: list[int]) -> tuple[int, ...]:
    """The counts up to the last that is not 0."""
    while len(counts) > 1 and not counts[-1]:
        counts.pop()
    return tuple(counts)


class _Symmetry:
    """Tells whether a set of edges holds the reverse of each, while they go by in any order.

    Each edge is mapped to a random-looking number of 128 bits. The sum over all edges is that over their
    reverses if the two sets are one; if they are not, it is so by chance only (2^-128).

    Args:
        bits: bits of a node in a key.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._sum = [0, 0]

    def add(self, key: np.ndarray) -> None:
        """Take in edges, none of which was taken in before."""
        reverse = (key >> self._bits) | ((key & ((1 << self._bits) - 1)) << self._bits)
        for side, keys in ((1, key), (-1, reverse)):
            mixed = _mixed(keys.astype(np.uint64))
            self._sum[0] += side * int(mixed.sum())
            self._sum[1] += side * int(_mixed(mixed).sum())

    @property
    def holds(self) -> bool:
        """Whether the edges taken in are symmetric."""
        return self._sum[0] % 2**64 == 0 and self._sum[1] % 2**64 == 0


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele, Lea and Flood 2014): one to one, and each bit depends on all."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
