"""The halo of a part: the rows of other parts that it reads."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import Chunk

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
    return tuple(_halo_of(matrix, ranges, part) for part in range(len(ranges)))


def part_and_chunk_of(ids: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor]:
    """The part and the chunk of each row id."""
    stops = torch.tensor([chunk.stop for chunks in ranges for chunk in chunks])
    range_index = torch.searchsorted(stops, ids, right=True)  # ranges are numbered part by part
    num_chunks = len(ranges[0])
    return range_index // num_chunks, range_index % num_chunks


def part_range(ranges: Ranges, part: int) -> Chunk:
    """All rows of a part, as one range."""
    return Chunk(ranges[part][0].start, ranges[part][-1].stop)


def _halo_of(matrix: Csr, ranges: Ranges, part: int) -> Tensor:
    mine = part_range(ranges, part)
    # all columns of this part's rows, less its own; a mask drops repetitions without sorting the edges
    read = torch.zeros(matrix.num_cols, dtype=torch.bool)
    read[matrix.rows(mine.start, mine.stop).col.to(torch.int64)] = True
    read[mine.start : mine.stop] = False
    # ascending ids are ordered by owner already; a stable sort by chunk keeps that order inside a chunk
    ids = read.nonzero().squeeze(1)
    _, chunk = part_and_chunk_of(ids, ranges)
    return ids[torch.argsort(chunk, stable=True)]
