"""Arrays that may be larger than the memory: mapped from a user's file, or from one written on the way.

    npy file                         mapped where it lies
    member of an npz file, stored    mapped where it lies, once its checksum is right
    member of an npz file, deflated  inflated into a file of the scratch folder, which is mapped
    CSV table                        blocks of rows, which a `gnnpipe.files.spool.Spool` collects

Arrays below `SMALL_ARRAY` are read into memory instead. A mapped array stays valid when its file is removed.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from gnnpipe.errors import shown
from gnnpipe.files.arrays import OBJECTS, Header, check_memory, checked_zip, open_unpacked, read_header
from gnnpipe.files.reading import MIB, open_file
from gnnpipe.files.writing import new_file, write_all

SMALL_ARRAY = 64 * MIB
# Text of a table that is parsed at once; the numbers take several times as much.
_TEXT_BLOCK = 8 * MIB


def map_array(path: Path) -> np.ndarray:
    """The array of an npy file.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no npy file, holds objects (which would be unpickled), or claims more than it holds.
    """
    with open_file(path, link=True) as file:
        header = read_header(file, os.fstat(file.fileno()).st_size)
        if header.dtype.hasobject:
            raise ValueError(OBJECTS)
        if header.nbytes <= SMALL_ARRAY:
            file.seek(header.offset)
            return _array(file.read(header.nbytes), header)
        return _native(_mapped(file, header.offset, header))


class ArrayArchive(Mapping[str, np.ndarray]):
    """The arrays of an npz file by name; each is read or mapped when it is asked for.

    Arrays of Python objects, which would be unpickled, are not among them.
    """

    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile, scratch: Path) -> None:
        """Read all headers; raises ValueError where one claims other bytes than its member holds."""
        self._file, self._archive, self._scratch = file, archive, scratch
        self._members: dict[str, tuple[zipfile.ZipInfo, Header]] = {}
        self.objects: list[str] = []
        """Names of the arrays that hold Python objects."""
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as member:
                    header = read_header(member, info.file_size)
                name = info.filename.removesuffix(".npy")
                if header.dtype.hasobject:
                    self.objects.append(name)
                else:
                    self._members[name] = info, header

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        """Whether the file has an array; it is not read for that."""
        return name in self._members

    def __getitem__(self, name: str) -> np.ndarray:
        """Raises KeyError, and ValueError for damage."""
        if name in self.objects:
            raise ValueError(f"{shown(name)}: {OBJECTS}")
        info, header = self._members[name]
        if header.nbytes <= SMALL_ARRAY:
            return _array(self._archive.read(info)[header.offset :], header)
        if info.compress_type == zipfile.ZIP_STORED:
            self._check(info)
            return _native(_mapped(self._file, self._start(info) + header.offset, header))
        path = self._scratch / f"member-{info.header_offset}-{os.urandom(4).hex()}"
        _check_disk(path.parent, info.file_size)
        inflated = new_file(path)
        try:
            with self._archive.open(info) as member:
                while block := member.read(MIB):
                    write_all(inflated, block)
        finally:
            os.close(inflated)
        with open_file(path) as file:
            return _native(_mapped(file, header.offset, header))

    def _check(self, info: zipfile.ZipInfo) -> None:
        """Raise BadZipFile where the checksum of a member is wrong; mapping it would not notice."""
        with self._archive.open(info) as member:
            while member.read(MIB):
                pass

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Where the bytes of a member begin: behind its local header, a name and an extra field."""
        self._file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", self._file.read(4))
        return info.header_offset + 30 + int(name) + int(extra)


@contextmanager
def map_arrays(path: Path, scratch: Path) -> Iterator[ArrayArchive]:
    """The arrays of an npz file, which stay valid after the block.

    Args:
        path: the file.
        scratch: folder for arrays that have to be inflated.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no npz file, or damaged.
    """
    with open_file(path, link=True) as file, checked_zip(file, in_memory=False) as archive:
        yield ArrayArchive(file, archive, scratch)


def table_blocks(path: Path, *, delimiter: str | None = ",") -> Iterator[np.ndarray]:
    """Rows of numbers of a text table without a header, gzipped or not; an empty line or cell is NaN.

    Args:
        path: the file.
        delimiter: stands between cells; None for commas or any white space, without empty cells and lines.

    Returns:
        Blocks, float64 ``[rows, columns]``, which holds every node id exactly (below 2^53).

    Raises:
        OSError, ValueError: the file can't be read, or a cell is no number; the message names the row.
    """
    return parsed_blocks(text_blocks(path), delimiter)


def parsed_blocks(texts: Iterable[bytes], delimiter: str | None) -> Iterator[np.ndarray]:
    """Rows of numbers from blocks of whole lines, as `table_blocks` yields them of a file."""
    row, columns = 0, None
    for text in texts:
        if delimiter is None and not text.strip():
            continue
        block = _parsed(text, delimiter, row)
        if columns is not None and block.shape[1] != columns:
            raise ValueError(f"row {row + 1} has {block.shape[1]} columns, and those before have {columns}")
        row, columns = row + len(block), block.shape[1]
        yield block


def text_blocks(path: Path) -> Iterator[bytes]:
    """Whole lines of a text file, gzipped or not, some megabytes at once.

    Raises:
        OSError, ValueError: the file can't be read, or a line is longer than a block.
    """
    with open_unpacked(path) as file:
        rest = b""
        while block := file.read(_TEXT_BLOCK):
            lines, end, rest_of_block = block.rpartition(b"\n")
            if not end:
                rest += block
                if len(rest) > 4 * _TEXT_BLOCK:
                    raise ValueError(f"a line is longer than {4 * _TEXT_BLOCK:,} bytes")
                continue
            yield rest + lines + end
            rest = rest_of_block
        if rest:
            yield rest


def _parsed(text: bytes, delimiter: str | None, row: int) -> np.ndarray:
    """The numbers of some lines; ``row`` rows were read before them."""
    text = text.replace(b"\r\n", b"\n") if b"\r" in text else text
    if delimiter is None:
        text = text.replace(b",", b" ")
    elif b"\n\n" in text or text.startswith(b"\n"):  # NumPy would skip empty lines
        text = _filled(text, delimiter.encode())
    try:
        return _loaded(text, delimiter)
    except ValueError as error:
        filled = text if delimiter is None else _filled(text, delimiter.encode())
        if len(filled) > len(text):
            return _parsed(filled, delimiter, row)
        raise ValueError(_reason(str(error), row)) from None


def _reason(message: str, row: int) -> str:
    """NumPy's message with the row counted from 1 in the whole table; ``row`` rows were read before."""
    if match := re.search(r"convert string (.*) to float64 at row (\d+), column (\d+)", message):
        return f"row {row + int(match[2]) + 1}, column {match[3]}: {shown(match[1], 80)} is no number"
    if match := re.search(r"changed from (\d+) to (\d+) at row (\d+)", message):
        return f"row {row + int(match[3])} has {match[2]} columns, and those before have {match[1]}"
    return shown(message)


def _loaded(text: bytes, delimiter: str | None) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="loadtxt: input contained no data")
        return np.loadtxt(io.BytesIO(text), delimiter=delimiter, ndmin=2, comments=None)


def _filled(text: bytes, delimiter: bytes) -> bytes:
    """The text with ``nan`` in empty cells."""
    rows = (line.split(delimiter) for line in text.removesuffix(b"\n").split(b"\n"))
    return b"\n".join(delimiter.join(cell if cell.strip() else b"nan" for cell in row) for row in rows)


def _mapped(file: IO[bytes], offset: int, header: Header) -> np.ndarray:
    # copy on write: torch warns of arrays that can't be written to, and the file stays as it is
    mapped: np.ndarray = np.memmap(
        file, header.dtype, "c", offset, header.shape, "F" if header.fortran else "C"
    )
    return mapped


def _array(content: bytes, header: Header) -> np.ndarray:
    array = np.frombuffer(content, header.dtype).copy()  # a copy may be written to
    return _native(array.reshape(header.shape, order="F" if header.fortran else "C"))


def _native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order; of the other order a copy in memory."""
    if array.dtype.isnative:
        return array
    check_memory(array.nbytes)
    return np.array(array, array.dtype.newbyteorder("="))


def _check_disk(folder: Path, size: int) -> None:
    """Raise OSError if ``size`` bytes have no room in a folder."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{size:,} bytes are to be written to '{folder}', and {free:,} are free; set TMPDIR")
