"""Text tables: which character divides cells, whether the first line names the columns, which line a row is.

Rows are what pyarrow counts: records without the header, blank lines left out. People are told lines.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from gnnpipe.errors import DataError, shown
from gnnpipe.files.arrays import open_unpacked
from gnnpipe.files.reading import MIB

Header = Literal["auto", "yes", "no"]
ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".edges", ".edgelist", ".el", ".parquet", ".pq")
"""Ends of the names of tables, perhaps with .gz behind them."""
MOST_COLUMNS = 100_000
# Longest line: pyarrow reads blocks of this size, and a block holds a line at least.
BLOCK = 4 * MIB
# Bytes that are looked at before a file is read.
_HEAD = MIB
_DELIMITERS = ",\t;|"
_COMMENT = (b"#", b"%")
_MARK = b"\xef\xbb\xbf"  # of UTF-8
_OTHERS = {
    b"PK\x03\x04": "it is a zip archive or a workbook; unpack it, or save the sheet as CSV",
    b"\xff\xfe": "it is UTF-16; save it as UTF-8",
    b"\xfe\xff": "it is UTF-16; save it as UTF-8",
    b"\xd0\xcf\x11\xe0": "it is a workbook; save the sheet as CSV",
    b"SQLite": "it is a database; write its tables as CSV",
    b"BZh": "it is packed with bzip2; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "it is packed with zstd; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "it is packed with xz; unpack it, or pack it with gzip",
}


@dataclass(frozen=True)
class Dialect:
    """Form of one text table."""

    delimiter: str
    """Character between cells; a space stands for any run of spaces and tabs."""
    names: tuple[str, ...]
    """Names of the columns; their numbers from 0 where no line names them. Unnamed ones are empty."""
    start: int
    """Byte at which the rows begin: behind a mark of the encoding, comments and the header."""
    lines: int
    """Number of lines before ``start``."""


def has_ending(path: Path) -> bool:
    """Whether a file's name ends as those of tables do."""
    return unpacked(path).endswith(ENDINGS)


def unpacked(path: Path) -> str:
    """The name that a file has when it is unpacked, in small letters, to tell its kind by the ending."""
    return path.name.lower().removesuffix(".gz")


def sniff(path: Path, header: Header) -> Dialect:
    """Look at the beginning of a text table; raises DataError where it is none."""
    try:
        with open_unpacked(path) as file:
            head = file.read(_HEAD)
            whole = len(head) < _HEAD
            if not whole and b"\n" not in head:
                head += file.read(BLOCK - _HEAD)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path.name}: it can't be read ({shown(str(error))})") from None
    return _sniff(path, head, whole, header)


def _sniff(path: Path, head: bytes, whole: bool, header: Header) -> Dialect:
    _check_kind(path, head)
    start = len(_MARK) if head.startswith(_MARK) else 0
    lines = head[start:].splitlines(keepends=True)
    if not whole:
        lines = _complete(path, lines)
    skipped = sum(1 for _ in itertools.takewhile(_says_nothing, lines))
    start += sum(map(len, lines[:skipped]))
    texts = [_decoded(path, number + 1, line) for number, line in enumerate(lines[skipped:], skipped)]
    if not texts:
        raise DataError(f"{path.name}: it is empty; it needs a line that names its columns, and rows")
    delimiter = _delimiter(path, texts[0])
    first, used = _first_record(path, texts, delimiter, skipped)
    named = header == "yes" or (header == "auto" and not all(map(_is_number, first)))
    names = tuple(map(str.strip, first) if named else map(str, range(len(first))))
    _check_names(path, names)
    if named:
        start += sum(len(line) for line in lines[skipped : skipped + used])
    return Dialect(delimiter, names, start, skipped + (used if named else 0))


def _check_kind(path: Path, head: bytes) -> None:
    """Refuse files that are no text, by their first bytes."""
    for magic, words in _OTHERS.items():
        if head.startswith(magic):
            raise DataError(f"{path.name}: {words}")


def _complete(path: Path, lines: list[bytes]) -> list[bytes]:
    """Lines from the beginning of a file, without the last one, which may be cut."""
    if len(lines) == 1 and not lines[0].endswith(b"\n"):
        raise DataError(f"{path.name}, line 1: it is longer than {BLOCK:,} bytes; a line holds one row")
    return lines[:-1] if len(lines) > 1 else lines


def _says_nothing(line: bytes) -> bool:
    """Whether it is empty or a comment."""
    return not line.strip() or line.startswith(_COMMENT)


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(path, number, error) from None
    if "\0" in text:
        raise DataError(f"{path.name}, line {number}: it holds zero bytes; it is no table of text")
    return text


def not_utf8(path: Path, number: int, error: UnicodeDecodeError) -> DataError:
    """The error of a line that is no UTF-8."""
    byte = error.object[error.start]
    return DataError(f"{path.name}, line {number}: byte 0x{byte:02x} is no UTF-8; save the file as UTF-8")


def _delimiter(path: Path, line: str) -> str:
    """The character that divides the cells of a line most often; outside CSV files it may be spaces."""
    plain = re.sub(r'"[^"]*"', "", line.rstrip("\r\n"))
    name = unpacked(path)
    if name.endswith((".tsv", ".tab")):
        return "\t"
    counts = {delimiter: plain.count(delimiter) for delimiter in _DELIMITERS}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    if name.endswith(".csv"):
        return best if counts[best] else ","
    by_spaces = len(plain.split()) > 1 and counts[","] == counts[";"] == counts["|"] == 0 and '"' not in line
    return " " if by_spaces else best if counts[best] else ","


def _first_record(path: Path, texts: list[str], delimiter: str, skipped: int) -> tuple[list[str], int]:
    """The cells of the first record, and its number of lines."""
    if delimiter == " ":
        return texts[0].split(), 1
    reader = csv.reader(texts, delimiter=delimiter)
    try:
        return next(reader), reader.line_num
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{path.name}, line {skipped + 1}: {shown(str(error))}") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_names(path: Path, names: tuple[str, ...]) -> None:
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{path.name}: it has {len(names):,} columns, and more than {MOST_COLUMNS:,} are not read"
        )
    given = [name for name in names if name]
    twice = (
        next((name for name in given if given.count(name) > 1), None)
        if len(set(given)) < len(given)
        else None
    )
    if twice is not None:
        raise DataError(f"{path.name}: two columns are called '{shown(twice)}'; rename one")


@contextmanager
def rows(path: Path, dialect: Dialect) -> Iterator[IO[bytes]]:
    """The bytes of a table's rows; runs of spaces become tabs. Raises OSError or ValueError."""
    with open_unpacked(path) as file:
        left = dialect.start
        while left and (skipped := len(file.read(min(left, MIB)))):
            left -= skipped
        yield io.BufferedReader(_Spaces(file), MIB) if dialect.delimiter == " " else file


class _Spaces(io.RawIOBase):
    """A stream with one tab for each run of spaces or tabs inside a line, and without comments."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._ready, self._rest = file, b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._file.read(MIB)
            if not block and not self._rest:
                return 0
            lines, newline, rest = (self._rest + block).rpartition(b"\n")
            if block and len(rest) > BLOCK:
                raise ValueError(f"a line is longer than {BLOCK:,} bytes")
            self._rest = rest if block else b""
            self._ready = _with_tabs(lines + newline if block else lines + newline + rest)
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def _with_tabs(lines: bytes) -> bytes:
    if b"#" in lines or b"%" in lines:
        lines = re.sub(rb"(?m)^[#%].*$", b"", lines)
    if b"\r" in lines:
        lines = lines.replace(b"\r", b"")
    lines = lines.replace(b"\t", b" ")
    while b"  " in lines:
        lines = lines.replace(b"  ", b" ")
    return lines.replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ").replace(b" ", b"\t")


def line_of(path: Path, dialect: Dialect, row: int) -> int | None:
    """The line, from 1, at which a row begins (counted from 0); None where it can't be told."""
    for number, (line, _) in enumerate(_records(path, dialect)):
        if number == row:
            return line
    return None


def first_uneven(path: Path, dialect: Dialect) -> tuple[int, int] | None:
    """Line and number of cells of the first row that has too few or too many."""
    expected = len(dialect.names)
    return next(((line, n) for line, n in _records(path, dialect) if n != expected), None)


def first_not_utf8(path: Path, dialect: Dialect) -> DataError | None:
    """The error of the first line that is no UTF-8."""
    with open_unpacked(path) as file:
        file.read(dialect.start)
        for number, line in enumerate(iter(lambda: file.readline(BLOCK), b""), dialect.lines + 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return not_utf8(path, number, error)
    return None


def _records(path: Path, dialect: Dialect) -> Iterator[tuple[int, int]]:
    """Line and number of cells of each row; ends early at what Python's reader refuses."""
    with open_unpacked(path) as file:
        file.read(dialect.start)
        text = io.TextIOWrapper(file, "utf-8", "replace", newline="")
        if dialect.delimiter == " ":
            for number, line in enumerate(text, dialect.lines + 1):
                if line.strip() and not line.startswith(("#", "%")):
                    yield number, len(line.split())
            return
        reader, begins = csv.reader(text, delimiter=dialect.delimiter), 1
        try:
            for record in reader:
                if record:
                    yield dialect.lines + begins, len(record)
                begins = reader.line_num + 1
        except csv.Error:
            return
