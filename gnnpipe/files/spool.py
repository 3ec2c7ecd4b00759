"""Arrays that grow in a file, for tables larger than the memory."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gnnpipe.files.scratch import scratch_folder
from gnnpipe.files.writing import new_file, write_all

LARGEST_IN_MEMORY = 64 << 20
"""Bytes up to which `large_array` needs no file."""


class Spool:
    """Rows of numbers, appended to a new file block by block and mapped into memory at the end.

    Args:
        path: file to make; it must not exist.
        dtype: format of the numbers.
        width: numbers of each row; 0 for a vector.
    """

    _file = -1

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

    def __del__(self) -> None:
        """Release the file of a spool that was given up."""
        self.close()

    def mapped(self) -> np.ndarray:
        """All rows, as a read-only array mapped from the file."""
        self.close()
        return map_rows(self._path, self._dtype, (self._rows, self._width) if self._width else (self._rows,))


def map_rows(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """The rows of a file that a `Spool` has written, perhaps in another process; read-only and mapped.

    Raises:
        OSError, ValueError: the file is not there, or shorter.
    """
    if not math.prod(shape):
        return np.zeros(shape, dtype)  # an empty file can't be mapped
    return np.memmap(path, np.dtype(dtype), "r", shape=shape)


def large_array(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros to write to; in memory up to `LARGEST_IN_MEMORY` bytes, else mapped from a file in TMPDIR, which
    is gone with the array.

    Raises:
        ConfigError, OSError: the file can't be made, or the disk has no room for it.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= LARGEST_IN_MEMORY:
        return np.zeros(shape, dtype)
    with scratch_folder() as folder:  # a map outlives its file's name
        return new_mapped(folder / "rows", dtype, shape).view(np.ndarray)


def new_mapped(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """A new file of zeros, mapped for writing; without a file where the shape has no entries.

    Raises:
        OSError: the file can't be made, or the disk has no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    file = new_file(path)
    try:
        # a disk that fills up while mapped pages are written would end the process
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
    finally:
        os.close(file)
    return np.memmap(path, np.dtype(dtype), "r+", shape=shape)


def copied_rows(array: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of ``size`` rows in memory, each with the number of its first row; maps keep no pages."""
    for start in range(0, len(array), size):
        block = np.array(array[start : start + size])
        release(array)
        yield start, block


def release(array: np.ndarray) -> None:
    """Give pages of a mapped array, or of a view of one, back to the system: the file keeps their content.

    Arrays of a RawGraph are what their files hold: changes to a map in memory alone (mode ``c``) are lost.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        mapping = getattr(base, "_mmap", None)
        if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)
            return
        base = base.base
