"""Checks of NumPy's files, zip archives and gzip files: each is refused if it claims more than it holds."""

from __future__ import annotations

import gzip
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from gnnpipe.errors import shown
from gnnpipe.files.reading import RATIO, SMALL, open_file
from gnnpipe.system.resources import available_memory

OBJECTS = "it holds Python objects, which would be unpickled"


def check_arrays(file: IO[bytes]) -> None:
    """Check that the headers of an npy or npz file claim just the bytes that it holds; raises ValueError."""
    file.seek(0)
    if file.read(6) == b"\x93NUMPY":
        check_array(file, file.seek(0, os.SEEK_END))
    else:  # an npz file is a zip archive of npy files
        with checked_zip(file) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        check_array(member, info.file_size)
    file.seek(0)


@dataclass(frozen=True)
class Header:
    """Header of an npy file."""

    shape: tuple[int, ...]
    fortran: bool
    """Whether the first index varies fastest."""
    dtype: np.dtype[Any]
    offset: int
    """Bytes of the file before the numbers."""

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def check_array(file: IO[bytes], size: int) -> None:
    """Check that an npy header claims just the bytes that follow it, and that they fit into memory.

    Raises:
        ValueError: it does not, or the array holds Python objects.
    """
    header = read_header(file, size)
    if header.dtype.hasobject:
        raise ValueError(OBJECTS)
    check_memory(header.nbytes)


def read_header(file: IO[bytes], size: int) -> Header:
    """The header of an npy file; of arrays of objects the bytes are not counted.

    Args:
        file: the npy file, or a member of an archive.
        size: bytes of the whole file, header included.

    Raises:
        ValueError: it is no header, or claims other bytes than follow it.
    """
    file.seek(0)
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"arrays of format {version} are not read")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        header = Header(*read(file), file.tell())
    except Exception as error:  # NumPy parses a header as Python, which fails in many ways
        raise ValueError(f"an array's header can't be read ({shown(str(error))})") from None
    shape, stored = header.shape, size - header.offset
    claimed = header.nbytes
    if not header.dtype.hasobject and (claimed != stored or min(shape, default=0) < 0):
        # two negative sizes have a positive product
        raise ValueError(f"an array of shape {shape} takes {claimed:,} bytes, but {stored:,} are there")
    return header


@contextmanager
def checked_zip(file: IO[bytes], *, in_memory: bool = True) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive that unpacks into at most `RATIO` times its size; raises ValueError for others.

    Args:
        file: the archive.
        in_memory: whether all its content has to fit into memory.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > max(SMALL, RATIO * size):
                raise ValueError(f"{size:,} bytes of it would unfold into {total:,}")
            if in_memory:
                check_memory(total)
            yield archive
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(shown(str(error))) from None


@contextmanager
def unzipped(path: Path) -> Iterator[IO[bytes]]:
    """The content of a gzip file; reading on raises ValueError beyond `RATIO` times the file's size."""
    with open_file(path, link=True) as file, gzip.open(file) as inner:
        yield io.BufferedReader(_Bounded(inner, max(SMALL, RATIO * os.fstat(file.fileno()).st_size)))


@contextmanager
def open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file; that of a gzip file is unpacked, as by `unzipped`."""
    with open_file(path, link=True) as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            yield file
            return
    with unzipped(path) as content:
        yield content


class _Bounded(io.RawIOBase):
    """A stream that raises ValueError once more than ``most`` bytes were read."""

    def __init__(self, inner: gzip.GzipFile, most: int) -> None:
        self._inner, self._left = inner, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._inner.read(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(shown(str(error))) from None
        self._left -= len(content)
        if self._left < 0:
            raise ValueError("it would unfold into far more than it is")
        buffer[: len(content)] = content
        return len(content)


def check_memory(size: int) -> None:
    """Raise ValueError if ``size`` bytes are not free: the system would kill a process that took them."""
    free = available_memory()
    if size > free:
        raise ValueError(f"it takes {size:,} bytes of memory, and {free:,} are free")
