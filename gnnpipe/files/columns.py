"""Files of results, row by row: npz, CSV or Parquet, written in blocks, whole or not at all.

npz       an array a column group:   node [n]   classes [n]   probabilities [n, 3]   class_names [3]
tables    a column a number:         node,class,probability_cat,probability_dog,...
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.writing import aside, new_file

ENDINGS = (".npz", ".csv", ".parquet")
# Numbers of a block in memory.
_BLOCK_NUMBERS = 1 << 20


@dataclass(frozen=True)
class Column:
    """A number, a text or several numbers for each row."""

    name: str
    """Name of its array in npz."""
    dtype: np.dtype[Any]
    """Format of its entries; text has its largest length."""
    heads: tuple[str, ...]
    """Names of its columns in tables; an array of one dimension has one."""
    block: Callable[[slice], np.ndarray]
    """Makes some of its rows: ``[n]``, or ``[n, number of heads]``."""
    words: tuple[str, ...] = ()
    """In tables, texts that stand for the numbers; empty for the numbers themselves."""
    flat: bool = True
    """Whether its array has one dimension."""


def check_columns_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where no file of columns can be written.

    Args:
        path: the file.
        overwrite: whether it may be there already.

    Raises:
        ConfigError: its name tells no format; Parquet without pyarrow; a file that is there; or no folder.
    """
    name = shown(str(path))
    if path.suffix not in ENDINGS:
        raise ConfigError(f"out: '{name}' can't be used; its ending says the format: {', '.join(ENDINGS)}")
    if path.suffix == ".parquet":
        _pyarrow()
    if path.exists() and not path.is_file():
        raise ConfigError(f"out: '{name}' is no file; name one")
    if path.exists() and not overwrite:
        raise ConfigError(f"out: '{name}' exists already; choose another --out or add --overwrite")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"out: the folder of '{name}' does not exist; make it, or choose another --out")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"out: the folder of '{name}' can't be written to; choose another --out")


def write_columns(
    path: Path, columns: Sequence[Column], num_rows: int, also: Mapping[str, np.ndarray]
) -> None:
    """Write a file in the format that its name ends in.

    Args:
        path: the file; one that is there is replaced.
        columns: what it is to hold.
        num_rows: number of rows of each column.
        also: further arrays, which tables leave out.

    Raises:
        OSError: it can't be written.
    """
    width = sum(len(column.heads) for column in columns)
    step = max(1, _BLOCK_NUMBERS // width)
    blocks = [slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]
    with aside(path) as unfinished, os.fdopen(new_file(unfinished), "wb") as file:
        if path.suffix == ".npz":
            _write_npz(file, columns, num_rows, blocks, also)
        elif path.suffix == ".csv":
            _write_csv(file, columns, blocks)
        else:
            _write_parquet(file, columns, blocks)


def _write_npz(
    file: BinaryIO,
    columns: Sequence[Column],
    num_rows: int,
    blocks: Sequence[slice],
    also: Mapping[str, np.ndarray],
) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for column in columns:
            shape = (num_rows,) if column.flat else (num_rows, len(column.heads))
            with _array(archive, column.name, column.dtype, shape) as member:
                for rows in blocks:
                    member.write(_bytes(column.block(rows).astype(column.dtype)))
        for name, array in also.items():
            with _array(archive, name, array.dtype, array.shape) as member:
                member.write(_bytes(array))


@contextmanager
def _array(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Iterator[Any]:
    """A member of an archive that NumPy reads as an array; its header is written."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_2_0(member, described)
        yield member


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _write_csv(file: BinaryIO, columns: Sequence[Column], blocks: Sequence[slice]) -> None:
    heads = [_quoted(head) for column in columns for head in column.heads]
    file.write((",".join(heads) + "\n").encode())
    for rows in blocks:
        cells = [_cells(column, column.block(rows)) for column in columns]
        file.write("".join(f"{','.join(line)}\n" for line in zip(*cells, strict=True)).encode())


def _cells(column: Column, block: np.ndarray) -> list[str]:
    """For each row the text of a column, or of several with commas in between."""
    if column.words:
        return [_quoted(column.words[number]) for number in block.tolist()]
    if column.dtype.kind == "U":
        return [_quoted(text) for text in block.tolist()]
    if column.dtype == np.float64:  # the fewest digits from which the same number is read
        return [",".join(map(repr, row)) for row in block.reshape(len(block), -1).tolist()]
    # nine digits tell float32 numbers apart
    form = ",".join(["%.9g" if column.dtype.kind == "f" else "%d"] * len(column.heads))
    return [form % tuple(row) for row in block.reshape(len(block), -1).tolist()]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(r'[",\r\n]', text) else text


def _write_parquet(file: BinaryIO, columns: Sequence[Column], blocks: Sequence[slice]) -> None:
    arrow = _pyarrow()
    import pyarrow.parquet

    kinds = {"U": arrow.string(), "u": arrow.bool_(), "i": arrow.int64()}
    fields = []
    for column in columns:
        number = arrow.from_numpy_dtype(column.dtype) if column.dtype.kind == "f" else None
        kind = number or kinds["U" if column.words else column.dtype.kind]
        fields += [arrow.field(head, kind) for head in column.heads]
    schema = arrow.schema(fields)
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for rows in blocks:
            arrays: list[Any] = []
            for column in columns:
                block = column.block(rows)
                if column.words:
                    block = np.array(column.words, dtype=object)[block]
                block = block.reshape(len(block), -1)
                arrays += [block[:, index] for index in range(block.shape[1])]
            batch = [arrow.array(array, kind) for array, kind in zip(arrays, schema.types, strict=True)]
            writer.write_table(arrow.Table.from_arrays(batch, schema=schema))


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            "out: Parquet files need pyarrow; pip install 'gnnpipe[tables]', or write .csv or .npz"
        ) from None
    return pyarrow
