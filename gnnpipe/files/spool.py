"""Arrays that grow in a file, for tables larger than the memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gnnpipe.files.writing import new_file, remove, write_all


class Spool:
    """Rows of numbers, appended to a new file block by block and mapped into memory at the end.

    Args:
        path: file to make; it must not exist.
        dtype: format of the numbers.
        width: numbers of each row; 0 for a vector.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, width: int = 0) -> None:
        self._path, self._dtype, self._width = path, np.dtype(dtype), width
        self._file = new_file(path)
        self._rows = 0

    def __len__(self) -> int:
        """Number of rows so far."""
        return self._rows

    def append(self, rows: np.ndarray) -> None:
        """Write rows ``[num_rows]`` or ``[num_rows, width]``; raises OSError, as on a full disk."""
        block = np.ascontiguousarray(rows, dtype=self._dtype)
        if block.size:
            write_all(self._file, block.reshape(-1).view(np.uint8).data)
        self._rows += len(block)

    def close(self) -> None:
        """Release the file; it keeps what was written."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def mapped(self) -> np.ndarray:
        """All rows, as a read-only array mapped from the file."""
        self.close()
        shape = (self._rows, self._width) if self._width else (self._rows,)
        if not self._rows:
            return np.zeros(shape, self._dtype)  # an empty file can't be mapped
        return np.memmap(self._path, self._dtype, "r", shape=shape)

    def blocks(self, num_rows: int) -> Iterator[np.ndarray]:
        """All rows in order, at most ``num_rows`` at a time, read into memory."""
        self.close()
        width = max(self._width, 1)
        with self._path.open("rb") as file:
            while len(block := np.fromfile(file, self._dtype, num_rows * width)):
                yield block.reshape(-1, self._width) if self._width else block

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        remove(self._path)


def new_mapped(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """A new file of zeros, mapped for writing; without a file where the shape has no entries."""
    if not np.prod(shape, dtype=np.float64):
        return np.zeros(shape, dtype)
    os.close(new_file(path))
    return np.memmap(path, np.dtype(dtype), "r+", shape=shape)


def release(array: np.ndarray) -> None:
    """Give pages of a mapped array back to the system: the file keeps their content."""
    mapping = getattr(array, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
