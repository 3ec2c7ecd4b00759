"""Reading numpy's files, tables of numbers, and zip archives, that claim no more than they hold."""

from __future__ import annotations

import gzip
import io
import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from gnnpipe.errors import shown
from gnnpipe.files.reading import RATIO, SMALL, open_file
from gnnpipe.system.resources import available_memory


@contextmanager
def arrays(path: Path) -> Iterator[Any]:
    """The arrays of an npz file, by name, read when they are asked for.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no npz file, holds objects (which would be unpickled), or claims more than it holds.
    """
    with open_file(path, link=True) as file:
        check_arrays(file)
        try:
            with np.load(file, allow_pickle=False) as found:
                yield found
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(shown(str(error))) from None


def read_array(path: Path) -> np.ndarray:
    """The array of an npy file; raises OSError or ValueError as `arrays` does."""
    with open_file(path, link=True) as file:
        check_arrays(file)
        found: np.ndarray = np.load(file, allow_pickle=False)
        return found


def read_table(path: Path) -> np.ndarray:
    """Rows of numbers from a CSV file without a header, gzipped or not, an empty cell being NaN.

    They are float64, which holds ids exactly. Raises OSError or ValueError.
    """
    opened = unzipped(path) if path.suffix == ".gz" else open_file(path, link=True)
    with opened as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="loadtxt: input contained no data")
        text = io.TextIOWrapper(file, encoding="utf-8")
        return np.loadtxt(_filled(text), delimiter=",", ndmin=2, comments=None)


def _filled(lines: Iterable[str]) -> Iterator[str]:
    """An empty line is a column without a value, which NumPy would skip."""
    for line in lines:
        yield line if line.strip() else "nan"


def check_arrays(file: IO[bytes]) -> None:
    """Compare what an npy or npz file says of itself with what it holds; raises ValueError."""
    file.seek(0)
    if file.read(6) == b"\x93NUMPY":
        check_array(file, file.seek(0, os.SEEK_END))
    else:
        with checked_zip(file) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        check_array(member, info.file_size)
    file.seek(0)


def check_array(file: IO[bytes], size: int) -> None:
    """Compare an npy header with the bytes that follow it."""
    file.seek(0)
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"arrays of format {version} are not read")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception as error:  # numpy parses it as Python, and fails in as many ways
        raise ValueError(f"an array's header can't be read ({shown(str(error))})") from None
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which would be unpickled")
    claimed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed != there or min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape} takes {claimed:,} bytes, but {there:,} are there")
    check_memory(claimed)


@contextmanager
def checked_zip(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """A zip archive that does not unfold into far more than it is; raises ValueError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > max(SMALL, RATIO * size):
                raise ValueError(f"{size:,} bytes of it would unfold into {total:,}")
            check_memory(total)
            yield archive
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(shown(str(error))) from None


@contextmanager
def unzipped(path: Path) -> Iterator[IO[bytes]]:
    """The content of a gzip file; raises ValueError where it unfolds beyond `RATIO` times its size."""
    with open_file(path, link=True) as file, gzip.open(file) as inner:
        yield io.BufferedReader(_Bounded(inner, max(SMALL, RATIO * os.fstat(file.fileno()).st_size)))


class _Bounded(io.RawIOBase):
    """A stream that ends in ValueError after a number of bytes."""

    def __init__(self, inner: gzip.GzipFile, most: int) -> None:
        self._inner, self._left = inner, most

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as fit into ``buffer``."""
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
    """Raise ValueError if ``size`` bytes are not free; taking them would get this process killed."""
    free = available_memory()
    if size > free:
        raise ValueError(f"it takes {size:,} bytes of memory, and {free:,} are free")
