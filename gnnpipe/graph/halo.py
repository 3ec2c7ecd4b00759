"""The halo: rows of other parts that a part reads."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.graph.chunks import Chunk
from gnnpipe.graph.csr import Csr

Ranges = tuple[tuple[Chunk, ...], ...]


def halo_rows(matrix: Csr, ranges: Ranges) -> tuple[Tensor, ...]:
    """For each part, the rows of other parts that its rows of ``matrix`` read, each once.

    Args:
        matrix: A for the forward pass, A^T for the backward pass; square, renumbered.
        ranges: ``[part][chunk]``.

    Returns:
        int64 global ids for each part, ascending by (chunk, owner, id): what one exchange brings is
        contiguous, owner by owner.
    """
    return tuple(_halo_of(matrix, ranges, part) for part in range(len(ranges)))


def place_of(ids: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor]:
    """Part and chunk of global ids."""
    stops = torch.tensor([chunk.stop for chunks in ranges for chunk in chunks])
    place = torch.searchsorted(stops, ids, right=True)
    num_chunks = len(ranges[0])
    return place // num_chunks, place % num_chunks


def part_range(ranges: Ranges, part: int) -> Chunk:
    """All rows of a part."""
    return Chunk(ranges[part][0].start, ranges[part][-1].stop)


def _halo_of(matrix: Csr, ranges: Ranges, part: int) -> Tensor:
    mine = part_range(ranges, part)
    read = torch.zeros(matrix.num_cols, dtype=torch.bool)
    read[matrix.rows(mine.start, mine.stop).col.to(torch.int64)] = True
    read[mine.start : mine.stop] = False
    ids = read.nonzero().squeeze(1)
    _, chunk = place_of(ids, ranges)
    return ids[torch.argsort(chunk, stable=True)]
