"""External bucket sort: keys in order, with one bucket in memory at a time.

Two passes over the keys: the first counts how many fall into each of 65,536 equal ranges (bins), the second
writes each key into a bucket, which is a run of bins that are about as many keys as the memory allows:

    bins      2 0 1 3 | 9 | 0 1 1 2 0 | ...       capacity 7: a bin with more keys is a bucket of its own
    buckets   0         1   2

Such a bin is sorted in the same way by itself, over a range 65,536 times as narrow: so hubs, of any size, are
split by the edges' other ends. A bucket of one key only (one edge, repeated) is in order as it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnnpipe.files.regions import Regions
from gnnpipe.graph.folder.edges import BLOCK, Keys

CAPACITY = 1 << 22
"""Keys of a bucket, which take 32 MiB, and about five times as much with weights."""
MOST_BUCKETS = 250  # their numbers are bytes, which NumPy sorts fastest
_BIN_BITS = 16
# Sorted keys that are handed on at once: what follows stays in the processor's cache.
_SORTED = 1 << 17

Stream = Callable[[], Iterator[Keys]]
"""All keys, block by block; can be gone through several times."""


@dataclass(frozen=True)
class _Buckets:
    """The cut of a range of keys into buckets."""

    low: int
    """Smallest key of the range."""
    shift: int
    """The bin of a key is ``(key - low) >> shift``."""
    first_bin: np.ndarray
    """int64 ``[num_buckets + 1]``: bucket i owns bins ``first_bin[i]:first_bin[i + 1]``."""
    size: np.ndarray
    """int64 ``[num_buckets]``: number of keys of each."""
    room: int
    """Keys that are in memory at once: more than the capacity where there would be too many buckets."""

    def range_of(self, bucket: int) -> tuple[int, int]:
        """The keys ``[low, high)`` that a bucket may hold."""
        first, last = (self.low + (int(self.first_bin[bucket + side]) << self.shift) for side in (0, 1))
        return first, last


def sorted_keys(stream: Stream, high: int, scratch: Path, capacity: int = CAPACITY) -> Iterator[Keys]:
    """Go through keys in order, in blocks; equal ones keep the order in which they come.

    Args:
        stream: goes through the keys, block by block.
        high: all keys are from 0 to below it.
        scratch: folder for the buckets; all is removed at the end.
        capacity: keys that are in memory at once.

    Raises:
        OSError: ``scratch`` is full, or can't be written.
        ValueError: the second pass over the keys brings others than the first.
    """
    return _sorted(stream, 0, high, scratch, capacity)


def _sorted(stream: Stream, low: int, high: int, scratch: Path, capacity: int) -> Iterator[Keys]:
    buckets, types = _count(stream, low, high, capacity)
    with ExitStack() as stack:
        name, sizes = secrets.token_hex(8), buckets.size.tolist()
        regions = {
            column: stack.enter_context(Regions(scratch / f"{name}.{column}", dtype, sizes))
            for column, dtype in types.items()
        }
        _distribute(stream, buckets, regions)
        for bucket, size in enumerate(sizes):
            first, last = buckets.range_of(bucket)
            if size <= buckets.room:
                yield from _in_memory(
                    Keys(**{column: region.read(bucket) for column, region in regions.items()})
                )
            elif last - first == 1:
                yield from _stored(regions, bucket, _SORTED)
            else:
                again = _again(regions, bucket)
                yield from _sorted(again, first, last, scratch, capacity)


def _count(stream: Stream, low: int, high: int, capacity: int) -> tuple[_Buckets, dict[str, np.dtype[Any]]]:
    """The cut into buckets, from a first pass over the keys, and the types of the keys' columns."""
    shift = max(0, (high - low - 1).bit_length() - _BIN_BITS)
    count, types = np.zeros(1 << _BIN_BITS, dtype=np.int64), {"key": np.dtype(np.int64)}
    for block in stream():
        count += np.bincount((block.key - low) >> shift, minlength=len(count))
        types = {name: column.dtype for name, column in block.columns.items()}
    total = np.concatenate([[0], np.cumsum(count)])
    room = max(capacity, 2 * int(total[-1]) // MOST_BUCKETS + 1)
    first = [0]
    while first[-1] < len(count):
        # as many bins as there is room for, but one at least
        fits = int(np.searchsorted(total, total[first[-1]] + room, side="right")) - 1
        first.append(max(fits, first[-1] + 1))
    first_bin = np.array(first)
    return _Buckets(low, shift, first_bin, np.diff(total[first_bin]), room), types


def _distribute(stream: Stream, buckets: _Buckets, regions: dict[str, Regions]) -> None:
    """Write each key, and what goes with it, into its bucket."""
    num_buckets = len(buckets.size)
    bucket_of = np.repeat(np.arange(num_buckets, dtype=np.uint8), np.diff(buckets.first_bin))
    for block in stream():
        bucket = bucket_of[(block.key - buckets.low) >> buckets.shift]
        order = np.argsort(bucket, kind="stable")  # of bytes: one pass, and equal keys keep their order
        end = np.cumsum(np.bincount(bucket, minlength=num_buckets))
        for name, column in block.taken(order).columns.items():
            for number in np.flatnonzero(np.diff(end, prepend=0)).tolist():
                regions[name].append(number, column[end[number - 1] if number else 0 : end[number]])


def _in_memory(keys: Keys) -> Iterator[Keys]:
    """A bucket's keys, sorted in memory, block by block."""
    if len(keys.columns) == 1:
        keys.key.sort()
    else:
        keys = keys.taken(stable_order(keys.key))
    for start in range(0, len(keys.key), _SORTED):
        yield keys.taken(slice(start, start + _SORTED))


def stable_order(key: np.ndarray) -> np.ndarray:
    """The order that sorts ``key``, in which equal keys stay in their order.

    NumPy's fast sort is not stable, and its stable one takes twice as long: where keys repeat, which is rare,
    their positions are sorted afterwards.
    """
    order = np.argsort(key)
    by_key = key[order]
    same = by_key[1:] == by_key[:-1]
    if same.any():
        repeats = np.concatenate([same, [False]]) | np.concatenate([[False], same])
        at = np.flatnonzero(repeats)
        run = np.cumsum(np.concatenate([[True], by_key[at][1:] != by_key[at][:-1]]))
        # both numbers are below 2^31: a bucket has fewer keys
        order[at] = np.sort((run << 31) | order[at]) & (2**31 - 1)
    return order


def _stored(regions: dict[str, Regions], bucket: int, size: int) -> Iterator[Keys]:
    """A bucket's keys as they are stored, block by block."""
    for columns in zip(*(region.blocks(bucket, size) for region in regions.values()), strict=True):
        yield Keys(**dict(zip(regions, columns, strict=True)))


def _again(regions: dict[str, Regions], bucket: int) -> Stream:
    return lambda: _stored(regions, bucket, BLOCK)
