"""Parallel edges: kept, summed or dropped while sorted keys go by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from gnnpipe.errors import DataError
from gnnpipe.graph.folder.edges import Keys


@dataclass(frozen=True)
class Entries:
    """Entries of the adjacency, in order."""

    key: np.ndarray
    """int64 ``[num_entries]``."""
    count: np.ndarray | None
    """int64 ``[num_entries]``: parallel edges that each stands for; None where each stands for one."""
    weight: np.ndarray | None
    """float32 ``[num_entries]``; None without weights."""
    new: np.ndarray | None
    """bool ``[num_entries]``: whether no entry before it is of the same edge; None where all are new."""
    record: np.ndarray | None = None
    """Features and types ``[num_entries]``, as in `Keys`; None if edges have neither."""


def without_known_reverses(blocks: Iterable[Keys]) -> Iterator[Keys]:
    """Drop an added reverse where the source has an edge that way already. Keys lose their last bit, which
    tells reverses (1) from edges (0)::

        key     5|0 5|0 5|1   7|1 7|1   9|0       7 has no edge of its own, so its reverses stay
        kept    5   5         7   7     9
    """
    last, last_is_added = -1, False
    for block in blocks:
        if not len(block.key):
            continue
        edge, added = block.key >> 1, (block.key & 1).astype(bool)
        begins = np.concatenate([[edge[0] != last], edge[1:] != edge[:-1]])
        # the first entry of a run tells whether it has edges of its own: they come first
        first = np.where(begins, added, last_is_added)
        run = np.maximum.accumulate(np.where(begins, np.arange(len(edge)), 0))
        kept = ~added | first[run]
        last, last_is_added = int(edge[-1]), bool(first[run[-1]])
        yield replace(block, key=edge).taken(kept)


def parallel(blocks: Iterable[Keys]) -> Iterator[Entries]:
    """Parallel edges stay entries of their own, in their order."""
    last = -1
    for block in blocks:
        if not len(block.key):
            continue
        new = np.concatenate([[block.key[0] != last], block.key[1:] != block.key[:-1]])
        last = int(block.key[-1])
        yield Entries(block.key, None, _float32(block.weight), new, block.record)


def merged(blocks: Iterable[Keys], *, first: bool) -> Iterator[Entries]:
    """Parallel edges become one entry.

    Args:
        blocks: sorted keys.
        first: keep the weight of the first, instead of the sum of all. Features and types are always those
            of the first.

    Raises:
        DataError: a sum is not finite in float32.
    """
    held: _Runs | None = None  # the last run of a block may go on in the next one
    for block in blocks:
        if len(block.key):
            runs = _runs(block, held, first=first)
            held = runs.part(slice(-1, None))
            yield runs.part(slice(0, -1)).entries()
    if held is not None:
        yield held.entries()


@dataclass(frozen=True)
class _Runs:
    """Runs of equal keys."""

    key: np.ndarray
    count: np.ndarray
    weight: np.ndarray | None
    """float64: sums are rounded to float32 once, when they are complete."""
    record: np.ndarray | None

    def part(self, chosen: slice) -> _Runs:
        weight, record = (None if column is None else column[chosen] for column in (self.weight, self.record))
        return _Runs(self.key[chosen], self.count[chosen], weight, record)

    def entries(self) -> Entries:
        return Entries(self.key, self.count, _float32(self.weight), None, self.record)


def _runs(block: Keys, held: _Runs | None, *, first: bool) -> _Runs:
    """The runs of a block, behind the one that was held back from the block before."""
    key, weight, record = block.key, block.weight, block.record
    if held is not None:
        key = np.concatenate([held.key, key])
        if weight is not None and held.weight is not None:
            weight = np.concatenate([held.weight, weight])
        if record is not None and held.record is not None:
            record = np.concatenate([held.record, record])
    start = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    count = np.diff(start, append=len(key))
    if held is not None:
        count[0] += held.count[0] - 1
    if weight is not None:
        weight = weight[start] if first else np.add.reduceat(weight, start, dtype=np.float64)
        weight = weight.astype(np.float64, copy=False)
    return _Runs(key[start], count, weight, None if record is None else record[start])


def _float32(weight: np.ndarray | None) -> np.ndarray | None:
    if weight is None:
        return None
    with np.errstate(over="ignore"):
        rounded = weight.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise DataError(
            "weight: the weights of parallel edges add up to more than float32 holds; scale the weights "
            "down, or use --duplicates keep"
        )
    return rounded
