"""The halo of a part: the rows of other parts that it reads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnpipe.graph.blocks import row_blocks
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import Chunk

# Parts whose readings of all rows are noted at once, in a byte each.
PARTS_AT_ONCE = 8

Ranges = tuple[tuple[Chunk, ...], ...]


def halo_rows(matrix: Csr, ranges: Ranges) -> tuple[Tensor, ...]:
    """For each part, the rows of other parts that it reads through ``matrix``, each once.

    Args:
        matrix: A for the forward pass, A^T for the backward pass; square, renumbered.
        ranges: ``[part][chunk]``: rows in the new numbering.

    Returns:
        int64 row ids for each part, ascending by (chunk, owner, id). The exchange of one chunk so fills
        consecutive rows of the table, owner by owner::

            own rows | chunk 0: from part 1, part 2 | chunk 1: from part 1, part 2 | ...
    """
    halo = []
    for part in range(len(ranges)):
        mine = part_range(ranges, part)
        # a mask drops repetitions without sorting the edges
        read = np.zeros(matrix.num_cols, dtype=bool)
        for _, _, rows in row_blocks(matrix.rows(mine.start, mine.stop)):
            read[rows.col] = True
        halo.append(_in_order(read, ranges, part))
    return tuple(halo)


def halo_rows_back(matrix: Csr, ranges: Ranges) -> tuple[Tensor, ...]:
    """`halo_rows` of the transpose, which need not exist."""
    halo: list[Tensor] = []
    for first in range(0, len(ranges), PARTS_AT_ONCE):
        parts = range(first, min(first + PARTS_AT_ONCE, len(ranges)))
        # read[part, row]: whether the part owns a column of the row
        read = np.zeros((len(parts), matrix.num_rows), dtype=bool)
        starts = np.array([part_range(ranges, part).start for part in parts])
        stop = part_range(ranges, parts[-1]).stop
        for start, _, rows in row_blocks(matrix):
            owner = np.searchsorted(starts, rows.col, side="right") - 1
            counts = (owner >= 0) & (rows.col < stop)
            read[owner[counts], (rows.row + start)[counts]] = True
        halo.extend(_in_order(read[part - first], ranges, part) for part in parts)
    return tuple(halo)


def part_and_chunk_of(ids: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor]:
    """The part and the chunk of each row id."""
    stops = torch.tensor([chunk.stop for chunks in ranges for chunk in chunks])
    range_index = torch.searchsorted(stops, ids, right=True)  # ranges are numbered part by part
    num_chunks = len(ranges[0])
    return range_index // num_chunks, range_index % num_chunks


def part_range(ranges: Ranges, part: int) -> Chunk:
    """All rows of a part, as one range."""
    return Chunk(ranges[part][0].start, ranges[part][-1].stop)


def _in_order(read: np.ndarray, ranges: Ranges, part: int) -> Tensor:
    """The ids that ``read`` marks outside of a part, in the order of `halo_rows`."""
    mine = part_range(ranges, part)
    read[mine.start : mine.stop] = False
    # ascending ids are ordered by owner already; a stable sort by chunk keeps that order inside a chunk
    ids = torch.from_numpy(read).nonzero().squeeze(1)
    _, chunk = part_and_chunk_of(ids, ranges)
    return ids[torch.argsort(chunk, stable=True)]
