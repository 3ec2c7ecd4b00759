"""A scratch file of numbers in regions of known sizes: buckets that are filled in turns and then read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gnnpipe.files.reading import open_file
from gnnpipe.files.writing import new_file, remove


class Regions:
    """Regions of one file, which is removed at the end. Each keeps the order in which it is filled::

        | region 0: 3 numbers | region 1: 5 numbers | ...      sizes = [3, 5, ...]

    Args:
        path: the file, which must not exist yet.
        dtype: type of the numbers.
        sizes: numbers that each region has room for.
    """

    def __init__(self, path: Path, dtype: Any, sizes: Sequence[int]) -> None:
        self._path, self._dtype = path, np.dtype(dtype)
        self._start = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]) * self._dtype.itemsize
        self._filled = self._start[:-1].copy()
        self._file = new_file(path)
        self._reader = open_file(path)

    def __enter__(self) -> Regions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        self._reader.close()
        remove(self._path)

    def append(self, region: int, numbers: np.ndarray) -> None:
        """Write behind the numbers that the region holds; raises ValueError where it is full."""
        left = np.ascontiguousarray(numbers, dtype=self._dtype).view(np.uint8).data
        at = int(self._filled[region])
        if at + len(left) > self._start[region + 1]:
            raise ValueError("more numbers come than were counted: a file changes while it is read")
        self._filled[region] += len(left)
        while len(left):
            count = os.pwrite(self._file, left, at)
            left, at = left[count:], at + count

    def blocks(self, region: int, size: int) -> Iterator[np.ndarray]:
        """The numbers of a region, in blocks of at most ``size``."""
        start, end = int(self._start[region]), int(self._filled[region])
        step = size * self._dtype.itemsize
        for at in range(start, end, step):
            yield self._read(at, min(step, end - at))

    def read(self, region: int) -> np.ndarray:
        """All numbers of a region."""
        start, end = int(self._start[region]), int(self._filled[region])
        return self._read(start, end - start)

    def _read(self, at: int, size: int) -> np.ndarray:
        block = np.empty(size // self._dtype.itemsize, dtype=self._dtype)
        left = memoryview(block.view(np.uint8).data)
        while len(left):
            count = os.preadv(self._reader.fileno(), [left], at)
            if not count:
                raise OSError(5, "it ends too early", str(self._path))
            left, at = left[count:], at + count
        return block
