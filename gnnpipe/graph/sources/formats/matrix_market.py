"""Matrix Market files (``.mtx``, gzipped or not): an adjacency whose rows are sources.

%%MatrixMarket matrix coordinate pattern symmetric
% comments
4 4 3
2 1
3 1
4 2
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gnnpipe.errors import DataError, shown
from gnnpipe.files.mapped import parsed_blocks, text_blocks
from gnnpipe.files.spool import Spool
from gnnpipe.graph.convert import as_ids
from gnnpipe.graph.sources.formats.named import weights_of
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.system.steps import Say

LOOKS_FOR = "a file that begins with %%MatrixMarket"
BANNER = b"%%MatrixMarket"
_KINDS, _SYMMETRIES = ("real", "integer", "pattern"), ("general", "symmetric", "skew-symmetric")
_MOST_NODES, _MOST_HEAD = 2**53, 2**26
# The line of sizes behind the banner, comments and empty lines.
_SIZE = rb"[ \t]+(\d{1,18})"
_SIZES = re.compile(
    rb"[^\n]*\n(?:%[^\n]*\n|[ \t\r]*\n)*[ \t]*(\d{1,18})" + _SIZE + _SIZE + rb"[ \t\r]*(?:\n|$)"
)


def read(path: Path, scratch: Path, say: Say) -> RawGraph:
    """The graph whose adjacency a Matrix Market file holds, read in blocks.

    Of a symmetric matrix, which lists one half, each entry off the diagonal becomes an edge each way.

    SciPy's reader ends the process at some damaged files (version 1.17), so it is not used.

    Raises:
        DataError: it is no square sparse matrix of real numbers, or its entries are not those it claims.
        OSError, ValueError: the file can't be read.
    """
    blocks = text_blocks(path)
    (kind, symmetry), rows, num_entries, rest = _head(blocks, path.name)
    say(f"{path.name}: Matrix Market, {kind} {symmetry}, rows are sources")
    edges, weights = Spool(scratch / "edges", np.int64, 2), Spool(scratch / "weights", np.float64)
    seen, columns = 0, 2 if kind == "pattern" else 3
    for block in parsed_blocks(itertools.chain([rest], blocks), None):
        if block.shape[1] != columns:
            raise DataError(f"{path.name}: {block.shape[1]} columns, and {kind} entries have {columns}")
        seen += len(block)
        ends = as_ids(block[:, :2] - 1, f"{path.name}: entries, counted from 0", rows).numpy()
        values = np.ones(len(ends)) if kind == "pattern" else block[:, 2]
        if symmetry != "general":
            other = ends[:, 0] != ends[:, 1]
            ends = np.concatenate([ends, ends[other, ::-1]])
            values = np.concatenate([values, values[other] * (-1 if symmetry == "skew-symmetric" else 1)])
        edges.append(ends)
        weights.append(values)
    if seen != num_entries:
        raise DataError(f"{path.name}: it claims {num_entries:,} entries and holds {seen:,}; it is damaged")
    weight = weights_of(weights.mapped(), path.name)
    return RawGraph(edges.mapped().T, None, None, None, weight=weight, num_nodes=rows)


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
