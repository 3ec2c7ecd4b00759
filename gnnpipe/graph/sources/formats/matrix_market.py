"""Matrix Market files (``.mtx``, gzipped or not): an adjacency whose rows are sources.

%%MatrixMarket matrix coordinate pattern symmetric
% comments
4 4 3
2 1
3 1
4 2
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse as sp

from gnnpipe.errors import DataError, shown
from gnnpipe.files.mapped import Spool, text_blocks
from gnnpipe.graph.sources.formats.named import weights_of
from gnnpipe.graph.sources.raw import RawGraph

LOOKS_FOR = "a file that begins with %%MatrixMarket"
BANNER = b"%%MatrixMarket"
_KINDS, _SYMMETRIES = ("real", "integer", "pattern"), ("general", "symmetric", "skew-symmetric")
_MOST_NODES, _MOST_HEAD = 2**53, 2**26
# The line of sizes behind the banner, comments and empty lines.
_SIZE = rb"[ \t]+(\d{1,18})"
_SIZES = re.compile(
    rb"[^\n]*\n(?:%[^\n]*\n|[ \t\r]*\n)*[ \t]*(\d{1,18})" + _SIZE + _SIZE + rb"[ \t\r]*(?:\n|$)"
)


def read(path: Path, scratch: Path, say: Callable[[str], None]) -> RawGraph:
    """The graph whose adjacency a Matrix Market file holds, read in blocks.

    Of a symmetric matrix, which lists one half, each entry off the diagonal becomes an edge each way.

    Raises:
        DataError: it is no square sparse matrix of real numbers, or its entries are not those it claims.
        OSError: the file can't be read.
    """
    blocks = text_blocks(path)
    (kind, symmetry), rows, num_entries, rest = _head(blocks, path.name)
    say(f"{path.name}: Matrix Market, {kind} {symmetry}, rows are sources")
    edges, weights = Spool(scratch / "edges", np.int64, 2), Spool(scratch / "weights", np.float64)
    seen = 0
    for lines in _entry_lines(rest, blocks):
        matrix = _parsed(lines, kind, symmetry, rows, f"{path.name}: near entry {seen + 1}")
        seen += len(lines)
        edges.append(np.stack([matrix.row, matrix.col], axis=1))
        if kind != "pattern":
            weights.append(matrix.data)
    if seen != num_entries:
        raise DataError(f"{path.name}: it claims {num_entries:,} entries and holds {seen:,}; it is damaged")
    weight = None if kind == "pattern" else weights_of(weights.array(), path.name)
    return RawGraph(edges.array().T, None, None, None, weight=weight, num_nodes=rows)


def _head(blocks: Iterator[bytes], where: str) -> tuple[tuple[str, str], int, int, bytes]:
    """Kind and symmetry, number of rows, number of entries, and the text behind the sizes."""
    text = next(blocks, b"")
    while (sizes := _SIZES.match(text)) is None and len(text) < _MOST_HEAD and (block := next(blocks, b"")):
        text += block
    banner = text.partition(b"\n")[0]
    words = banner.decode("latin1").lower().split()
    if words[1:3] != ["matrix", "coordinate"] or len(words) != 5:
        raise DataError(
            f"{where}: '{shown(banner.decode('latin1'), 80)}' is no list of a sparse matrix's entries; "
            "matrix coordinate is needed"
        )
    kind, symmetry = words[3:]
    if kind not in _KINDS or symmetry not in _SYMMETRIES:
        raise DataError(
            f"{where}: a matrix that is {shown(kind)} and {shown(symmetry)} is not read; one of real or "
            "integer numbers or a pattern is, general or symmetric"
        )
    if sizes is None:
        raise DataError(f"{where}: no line with three sizes follows the comments: rows, columns, entries")
    rows, cols, num_entries = (int(size) for size in sizes.groups())
    if rows != cols or not 0 <= rows < _MOST_NODES:
        raise DataError(f"{where}: a matrix of {rows} x {cols} is no adjacency of a graph")
    return (kind, symmetry), rows, num_entries, text[sizes.end() :]


def _entry_lines(first: bytes, blocks: Iterator[bytes]) -> Iterator[list[bytes]]:
    for text in itertools.chain([first], blocks):
        yield from _filled(text)


def _filled(text: bytes) -> Iterator[list[bytes]]:
    """The lines of a block that hold an entry; nothing if there are none."""
    lines = [line for line in text.split(b"\n") if line.strip() and not line.startswith(b"%")]
    if lines:
        yield lines


def _parsed(lines: list[bytes], kind: str, symmetry: str, rows: int, where: str) -> sp.coo_matrix:
    """The entries of some lines, parsed by SciPy as a small file of their own."""
    head = f"%%MatrixMarket matrix coordinate {kind} {symmetry}\n{rows} {rows} {len(lines)}\n"
    try:
        return sp.coo_matrix(scipy.io.mmread(io.BytesIO(head.encode() + b"\n".join(lines) + b"\n")))
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: {shown(str(error))}; row and column from 1 to {rows} are needed") from None
