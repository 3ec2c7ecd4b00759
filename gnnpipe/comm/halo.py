"""Boundary rows that travel between the parts of a stage, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.comm.transport import Transfer
from gnnpipe.graph.chunks import Chunk
from gnnpipe.graph.halo import Ranges, part_and_chunk_of, part_range
from gnnpipe.schedule.timeline import HaloWait

COMMUNICATION_GRAPH = "communication-graph"


@dataclass(frozen=True)
class Route:
    """What a rank sends and gets in the exchange of one chunk."""

    send: Tensor
    """int64: local rows of the chunk that other parts read, ordered by reader."""
    send_splits: list[int]
    """How many go to each part."""
    arrive: Chunk
    """Rows of the table that the exchange fills; they stand behind the part's own."""
    arrive_splits: list[int]
    """How many come from each part."""


def routes(
    halo: tuple[Tensor, ...], ranges: Ranges, part: int, device: torch.device | None = None
) -> list[Route | None]:
    """The route of each chunk; None where no part reads any row of the chunk.

    Args:
        halo: for each part the rows it reads, see `gnnpipe.graph.halo.halo_rows`.
        ranges: ``[part][chunk]``.
        part: whose routes.
        device: where the rows to send are picked; by default the CPU.
    """
    num_parts, num_chunks = len(ranges), len(ranges[0])
    mine = part_range(ranges, part)
    counts = torch.zeros(num_parts, num_chunks, num_parts, dtype=torch.int64)  # reader, chunk, owner
    sent: list[list[Tensor]] = [[] for _ in range(num_chunks)]
    for reader, ids in enumerate(halo):
        owner, chunk = part_and_chunk_of(ids, ranges)
        counts[reader] = torch.bincount(chunk * num_parts + owner, minlength=num_chunks * num_parts).view(
            num_chunks, num_parts
        )
        own = ids[owner == part] - mine.start
        for index, rows in enumerate(own.split(counts[reader, :, part].tolist())):
            sent[index].append(rows)
    stops = (mine.num_nodes + counts[part].sum(dim=1).cumsum(0)).tolist()
    starts = [mine.num_nodes, *stops[:-1]]
    return [
        Route(
            torch.cat(sent[index]).to(device),
            counts[:, index, part].tolist(),
            Chunk(starts[index], stops[index]),
            counts[part, index].tolist(),
        )
        if counts[:, index].any()
        else None
        for index in range(num_chunks)
    ]


@dataclass(frozen=True)
class Arrival:
    """Rows under way into a tensor, which must not be read until `Halo.wait`."""

    transfers: list[Transfer]
    """Of messages from and to each other part. An all-to-all would be one, but gloo's of two ranks mostly
    sends one way and then the other."""
    sent: Tensor
    """Kept until it has left."""
    posted: float


class Halo:
    """The exchanges of one rank with the other parts of its stage, with what it waits for them.

    Args:
        links: the group, and where bytes are counted.
        clock: for the waits.
        place: this rank's.
    """

    def __init__(self, links: Links, clock: Clock, place: Place) -> None:
        self._links, self._clock, self._place = links, clock, place
        self._waits: list[HaloWait] = []
        ranks = [
            place.stage * place.num_parts + part for part in range(place.num_parts) if part != place.part
        ]
        self._others = f"boundary rows of rank {' or '.join(map(str, ranks))}"

    def post(self, rows: Tensor, into: Tensor, route: Route, kind: str = COMMUNICATION_GRAPH) -> Arrival:
        """Send the boundary rows of ``rows`` and receive others' into ``into``, without waiting.

        Args:
            rows: ``[num_rows, width]``, the part's own rows first.
            into: ``[rows that arrive, width]``, contiguous, of the same type.
            route: who sends which; every part of the stage posts the same chunk.
            kind: what the bytes are counted as.
        """
        outgoing = rows.index_select(0, route.send)
        self._links.bytes_sent[kind] += outgoing.nbytes
        transfers = self._links.carrier.exchange(
            self._pieces(into, route.arrive_splits),
            self._pieces(outgoing, route.send_splits),
            self._links.halo,
        )
        return Arrival(transfers, outgoing, self._clock.glance())

    def _pieces(self, rows: Tensor, splits: list[int]) -> list[tuple[Tensor, int]]:
        """As many rows as ``splits`` says for each other part, none where that is 0, and its rank."""
        pieces = rows.view(torch.uint8).split(splits)  # bytes, as not every backend knows bf16
        first = self._place.stage * self._place.num_parts
        return [(piece, first + part) for part, piece in enumerate(pieces) if piece.numel()]

    def wait(self, arrival: Arrival) -> None:
        """Wait until the rows are there."""
        asked = self._clock.glance()
        with self._links.waiting.on(self._others):
            for transfer in arrival.transfers:
                transfer.wait()
        self._waits.append(HaloWait(arrival.posted, asked, self._clock.glance()))

    def take_waits(self) -> tuple[HaloWait, ...]:
        """The waits since the last call, in an order that is the same on all parts of a stage."""
        waits = tuple(self._waits)
        self._waits.clear()
        return waits
