"""Table: one or several files with the same columns, read batch by batch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from gnnpipe.errors import DataError, shown
from gnnpipe.files.reading import RATIO, SMALL, open_file
from gnnpipe.graph.sources.tables import text
from gnnpipe.graph.sources.tables.arrow import MISSING, Column, arrow, failures
from gnnpipe.graph.sources.tables.text import BLOCK, MOST_COLUMNS, Dialect, Header

# Cells of a batch; its rows follow from the number of columns.
_CELLS = 2_000_000
# Bytes of a Parquet column that are read at once: by default all of a group of rows, which may be the file.
_BUFFER = 1 << 20
# Sizes that Parquet's own description of a file may reach.
_THRIFT = 100 << 20

Result = TypeVar("Result")


@dataclass(frozen=True)
class Part:
    """One file of a table."""

    path: Path
    columns: tuple[str, ...]
    """Names of all columns; empty for those without one."""
    dialect: Dialect | None
    """Form of a text file; None for Parquet."""
    types: Mapping[str, Any]
    """pyarrow types of the columns of a Parquet file; empty for text."""

    def place(self, row: int) -> str:
        """Where a row, counted from 0, stands in the file: ``edges.csv, line 7``."""
        if self.dialect is None:
            return f"{self.path.name}, row {row + 1}"
        line = text.line_of(self.path, self.dialect, row)
        return f"{self.path.name}, row {row + 1}" if line is None else f"{self.path.name}, line {line}"


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of one file."""

    part: Part
    first: int
    """Number of the first row in its file, from 0."""
    columns: dict[str, Column]
    position: int = 0
    """Number of the first row in the table, all files behind each other."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def place(self, row: int, column: str) -> str:
        """Where a cell stands, for messages; ``row`` counts from 0 inside the batch."""
        return f"{self.part.place(self.first + row)}, column {shown(column)}"

    def cell(self, row: int, column: str) -> str:
        """The text of a cell."""
        return str(self.columns[column][row].as_py())


class BadCellError(Exception):
    """A column of a text file holds a cell that is not of the type asked for."""

    def __init__(self, part: Part, column: str) -> None:
        super().__init__(column)
        self.part, self.column = part, column


@dataclass(frozen=True)
class Table:
    """Files with the same columns."""

    parts: tuple[Part, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that have one."""
        return tuple(name for name in self.parts[0].columns if name)

    @property
    def name(self) -> str:
        """Name of the file, or of the first of several."""
        first = self.parts[0].path.name
        return first if len(self.parts) == 1 else f"{first} and {len(self.parts) - 1} more"

    def batches(self, types: Mapping[str, Any]) -> Iterator[Batch]:
        """All rows in order.

        Args:
            types: pyarrow type for each column wanted; it counts for text, Parquet files have their own.

        Raises:
            BadCellError: a cell of a text file can't be read as that type.
            DataError: a file can't be read.
        """
        position = 0
        for part in self.parts:
            for batch in _batches(part, types):
                yield replace(batch, position=position)
                position += len(batch)

    def passed(self, types: Mapping[str, Any], work: Callable[[Iterator[Batch]], Result]) -> Result:
        """Do work on all rows; begin again with a column as text if a cell is not of the type asked for."""
        kinds = dict(types)
        while True:
            try:
                return work(self.batches(kinds))
            except BadCellError as bad:
                kinds[bad.column] = arrow().string()

    def place(self, position: int, column: str) -> str:
        """Where a row, counted from 0 through all files, stands; ``column`` is read to find it."""
        for batch in self.batches({column: arrow().string()}):
            if position < batch.position + len(batch):
                return batch.part.place(batch.first + position - batch.position)
        return self.name

    def first_batch(self, columns: tuple[str, ...]) -> Batch | None:
        """The first rows, those of text files as text; None if there are none."""
        kinds = dict.fromkeys(columns, arrow().string())
        with closing(self.batches(kinds)) as batches:  # type: ignore[type-var]
            return next(batches, None)

    def first_cell(self, part: Part, column: str, is_bad: Callable[[Column], np.ndarray]) -> tuple[str, str]:
        """Place and value of the first cell of a text file for which ``is_bad`` holds."""
        for batch in _batches(part, {column: arrow().string()}):
            bad = is_bad(batch.columns[column])
            if bad.any():
                row = int(bad.argmax())
                return batch.place(row, column), batch.cell(row, column)
        return f"{part.path.name}, column {shown(column)}", "a cell"


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.name.lower().endswith((".parquet", ".pq"))


def open_part(path: Path, header: Header) -> Part:
    """Look at a file's form and columns; raises DataError."""
    try:
        with open_file(path, link=True) as file:
            if file.read(4) == b"PAR1":
                schema = _parquet(file, path).schema_arrow
                return Part(
                    path, tuple(schema.names), None, dict(zip(schema.names, schema.types, strict=True))
                )
    except failures() as error:
        raise _unreadable(path, error) from None
    if is_parquet(path):
        raise DataError(f"{path.name}: it is no Parquet file; copy or download it anew")
    dialect = text.sniff(path, header)
    return Part(path, dialect.names, dialect, {})


def _unreadable(path: Path, error: BaseException) -> DataError:
    if isinstance(error, DataError):
        return error
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(f"{path.name}: it can't be read ({shown(words)})")


def _batches(part: Part, types: Mapping[str, Any]) -> Iterator[Batch]:
    read = _parquet_batches if part.dialect is None else _text_batches
    try:
        yield from read(part, types)
    except failures() as error:
        raise _explained(part, error) from None


def _text_batches(part: Part, types: Mapping[str, Any]) -> Iterator[Batch]:
    pa, dialect = arrow(), part.dialect
    if dialect is None:
        return
    with text.rows(part.path, dialect) as file:
        try:
            reader = _csv_reader(file, dialect, types)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return
            raise _bad_cell(part, error) from None
        first = 0
        with closing(reader):
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                except pa.ArrowInvalid as error:
                    raise _bad_cell(part, error) from None
                if len(batch):
                    yield Batch(part, first, dict(zip(types, batch.columns, strict=True)))
                first += len(batch)


def _csv_reader(file: IO[bytes], dialect: Dialect, types: Mapping[str, Any]) -> Any:
    """pyarrow's reader of some columns, under names that are never empty or equal."""
    pa, by_spaces = arrow(), dialect.delimiter == " "
    unnamed = {f"\0{index}": name for index, name in enumerate(dialect.names)}
    internal = {name: key for key, name in unnamed.items() if name}
    wanted = {internal[name]: kind for name, kind in types.items()}
    return pa.csv.open_csv(
        file,
        pa.csv.ReadOptions(block_size=BLOCK, column_names=list(unnamed)),
        pa.csv.ParseOptions(
            delimiter="\t" if by_spaces else dialect.delimiter,
            quote_char=False if by_spaces else '"',
            newlines_in_values=True,
        ),
        pa.csv.ConvertOptions(
            include_columns=list(wanted), column_types=wanted, strings_can_be_null=False,
            null_values=list(MISSING), true_values=["true", "True", "TRUE"],
            false_values=["false", "False", "FALSE"],
        ),
    )  # fmt: skip


def _bad_cell(part: Part, error: Exception) -> Exception:
    """The error of a cell that is not of its column's type; other errors as they are."""
    found = re.match(
        r"In CSV column #(\d+):.*conversion error to (?!string|large_string)", str(error), re.DOTALL
    )
    return BadCellError(part, part.columns[int(found[1])]) if found else error


def _explained(part: Part, error: BaseException) -> Exception:
    """Words for what pyarrow refuses: which line, and what to do."""
    message, dialect = str(error), part.dialect
    if isinstance(error, DataError | BadCellError) or dialect is None:
        return _unreadable(part.path, error) if not isinstance(error, BadCellError) else error
    if "Expected" in message and "columns" in message and (found := text.first_uneven(part.path, dialect)):
        line, cells = found
        return DataError(
            f"{part.path.name}, line {line}: it has {cells} cells, and {len(dialect.names)} are expected; "
            "mend the line, or put cells that hold the delimiter in quotes"
        )
    if "straddl" in message or "Expected" in message:
        return DataError(
            f"{part.path.name}: a line is longer than {BLOCK:,} bytes, or a quote is never closed; a line "
            "holds one row"
        )
    if "UTF8" in message and (not_text := text.first_not_utf8(part.path, dialect)):
        return not_text
    return _unreadable(part.path, error)


def _parquet(file: Any, path: Path) -> Any:
    """An open Parquet file that claims no more than it can hold; raises ValueError."""
    pa = arrow()
    parquet = pa.parquet.ParquetFile(
        file,
        buffer_size=_BUFFER,
        thrift_string_size_limit=_THRIFT,
        thrift_container_size_limit=MOST_COLUMNS * 100,
    )
    about, size = parquet.metadata, os.fstat(file.fileno()).st_size
    if about.num_columns > MOST_COLUMNS:
        raise ValueError(f"it has {about.num_columns:,} columns, and more than {MOST_COLUMNS:,} are not read")
    # not about.row_group(...).column(...): a damaged description of a column would end the process there
    groups = [about.row_group(group) for group in range(about.num_row_groups)]
    if sum(group.num_rows for group in groups) != about.num_rows or any(
        group.num_rows < 0 for group in groups
    ):
        raise ValueError("its numbers of rows do not add up; the file is damaged")
    claimed = sum(group.total_byte_size for group in groups)
    if claimed > max(SMALL, RATIO * size) or any(group.total_byte_size < 0 for group in groups):
        raise ValueError(f"{size:,} bytes of it would unfold into {claimed:,}")
    names = parquet.schema_arrow.names
    if len(set(names)) < len(names):
        raise ValueError("two columns have the same name; rename one")
    return parquet


def _parquet_batches(part: Part, types: Mapping[str, Any]) -> Iterator[Batch]:
    pa = arrow()
    for name in types:
        if pa.types.is_nested(part.types[name]):
            raise DataError(
                f"{part.path.name}, column {shown(name)}: it holds values of type "
                f"{shown(str(part.types[name]))}; write a column for each value"
            )
    with open_file(part.path, link=True) as file:
        parquet = _parquet(file, part.path)
        first = 0
        rows = max(1024, _CELLS // max(len(types), 1))
        for batch in parquet.iter_batches(rows, columns=list(types), use_threads=False):
            batch.validate(full=True)
            if len(batch):
                columns = {name: batch.column(name) for name in types}
                yield Batch(part, first, columns)
            first += len(batch)
        if first != parquet.metadata.num_rows:
            raise ValueError(f"it claims {parquet.metadata.num_rows:,} rows, but {first:,} are there")


def joined(batches: Iterator[Batch], rows: int) -> Iterator[list[Batch]]:
    """Group batches until each group has at least ``rows`` rows, for work that has a cost of its own."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if sum(map(len, group)) >= rows:
            yield group
            group = []
    if group:
        yield group
