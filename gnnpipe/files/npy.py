"""npy files that may be larger than the memory: written, checked and read in blocks, and mapped.

    128 bytes: magic, version, {'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }, spaces | rows

The header has a fixed size, so that it can be written last, when the number of rows is known.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from gnnpipe.errors import shown
from gnnpipe.files.reading import open_file
from gnnpipe.files.writing import new_file, write_all

HEADER = 128
"""Bytes in front of the numbers."""
# Bytes and numbers that are handled at once.
_BLOCK, _VALUES = 1 << 22, 1 << 18


@dataclass(frozen=True)
class StoredArray:
    """Facts about an npy file: enough to notice that it was cut, replaced or changed."""

    dtype: str
    """Type of its numbers, as NumPy writes it: ``<f4``."""
    shape: tuple[int, ...]
    """Its shape."""
    bytes: int
    """Size of the file."""
    xxh3: str
    """xxh3 checksum (64 bits, hexadecimal) of the whole file."""


class ArrayWriter:
    """Writes the rows of one npy file, block by block.

    Args:
        path: the file, which must not exist yet.
        dtype: type of the numbers; blocks are converted to it.
        columns: shape of a row; ``()`` for an array of one dimension.
    """

    def __init__(self, path: Path, dtype: Any, columns: tuple[int, ...] = ()) -> None:
        self.path, self.num_rows = path, 0
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._columns = columns
        self._file = new_file(path)
        write_all(self._file, b"\0" * HEADER)  # no array, until the rows are complete

    def append(self, rows: np.ndarray) -> None:
        """Write rows behind those that are there."""
        content = np.ascontiguousarray(rows, dtype=self._dtype)
        write_all(self._file, content.reshape(-1).view(np.uint8).data)
        self.num_rows += len(rows)

    def fill(self, value: float, num_rows: int) -> None:
        """Append ``num_rows`` rows of one value."""
        block = np.full((_VALUES, *self._columns), value, dtype=self._dtype)
        for start in range(0, num_rows, _VALUES):
            self.append(block[: min(_VALUES, num_rows - start)])

    def finish(self) -> StoredArray:
        """Write the header, close the file and compute its checksum."""
        shape = (self.num_rows, *self._columns)
        os.lseek(self._file, 0, os.SEEK_SET)
        write_all(self._file, _header(self._dtype, shape))
        self.close()
        with open_file(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            return StoredArray(self._dtype.str, shape, size, _checksum(file))

    def close(self) -> None:
        """Close the file, finished or not; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + f"{text:<{HEADER - 11}}\n".encode()


def _checksum(file: BinaryIO) -> str:
    """The xxh3 checksum of a whole file."""
    total, buffer = xxhash.xxh3_64(), bytearray(_BLOCK)
    file.seek(0)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        total.update(memoryview(buffer)[:count])
    return total.hexdigest()


class StoredRows:
    """An npy file that agrees with what is known of it.

    Args:
        file: the file, which stays open.
        known: what is known of it.

    Raises:
        ValueError: its size, type, shape or checksum is another.
    """

    def __init__(self, file: BinaryIO, known: StoredArray) -> None:
        size = os.fstat(file.fileno()).st_size
        if size != known.bytes:
            raise ValueError(f"it has {size:,} bytes, and had {known.bytes:,} when it was written")
        self._file, self._dtype, self._shape = file, np.dtype(known.dtype), known.shape
        if math.prod(known.shape) * self._dtype.itemsize != size - HEADER or (
            file.read(HEADER) != _header(self._dtype, known.shape)
        ):
            raise ValueError(f"it does not hold {known.dtype} {shown(list(known.shape))}, as it did")
        if (checksum := _checksum(file)) != known.xxh3:
            raise ValueError(f"its checksum is {checksum}, and was {shown(known.xxh3)} when it was written")

    def blocks(self) -> Iterator[np.ndarray]:
        """The numbers of an array of one dimension, in blocks; pages are not kept, as a map's would be."""
        self._file.seek(HEADER)
        while content := self._file.read(_VALUES * self._dtype.itemsize):
            yield np.frombuffer(content, dtype=self._dtype)

    def map(self) -> np.ndarray:
        """The array, mapped and read-only: pages are read when they are first used."""
        return np.memmap(self._file, self._dtype, "r", HEADER, self._shape)


@contextmanager
def stored_rows(path: Path, known: StoredArray) -> Iterator[StoredRows]:
    """Open an npy file and compare it with what is known of it; raises OSError or ValueError."""
    with open_file(path) as file:
        yield StoredRows(file, known)
