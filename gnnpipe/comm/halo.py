"""The halo exchange: boundary rows that travel between the parts of a stage, chunk by chunk.

A part's boundary rows are its own rows that other parts read; its halo rows are others' rows that it reads.
The boundary rows of one part arrive as halo rows of another:

    part 0   own rows | halo rows: chunk 0, chunk 1, ...
              |   ^ boundary rows of a chunk are picked and sent
              v
    part 1   own rows | halo rows: chunk 0, chunk 1, ...
                        ^ and arrive in consecutive rows of the table
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.comm.transport import Transfer
from gnnpipe.graph.cut.chunks import Chunk
from gnnpipe.graph.cut.halo import Ranges, part_and_chunk_of, part_range
from gnnpipe.schedule.timeline import HaloWait

COMMUNICATION_GRAPH = "communication-graph"


@dataclass(frozen=True)
class Route:
    """The rows that a rank sends and receives in the exchange of one chunk."""

    send: Tensor
    """int64 ``[sum(send_splits)]``: local rows of the chunk that other parts read, ordered by reader."""
    send_splits: list[int]
    """``[num_parts]``: number of rows that go to each part."""
    arrive: Chunk
    """Rows of the table that the exchange fills; they stand behind the part's own."""
    arrive_splits: list[int]
    """``[num_parts]``: number of rows that come from each part."""


def routes(
    halo: tuple[Tensor, ...], ranges: Ranges, part: int, device: torch.device | None = None
) -> list[Route | None]:
    """The route of each chunk; None where no part reads any row of the chunk.

    Args:
        halo: for each part the ids of its halo rows, as `gnnpipe.graph.cut.halo.halo_rows` orders them.
        ranges: ``[part][chunk]``.
        part: the part that the routes are for.
        device: device that holds the rows to send; by default the CPU.
    """
    num_parts, num_chunks = len(ranges), len(ranges[0])
    mine = part_range(ranges, part)
    # counts[reader, chunk, owner]: rows of a chunk that one part reads of another
    counts = torch.zeros(num_parts, num_chunks, num_parts, dtype=torch.int64)
    sent: list[list[Tensor]] = [[] for _ in range(num_chunks)]
    for reader, ids in enumerate(halo):
        owner, chunk = part_and_chunk_of(ids, ranges)
        counts[reader] = torch.bincount(chunk * num_parts + owner, minlength=num_chunks * num_parts).view(
            num_chunks, num_parts
        )
        # ids ascend by chunk, so the rows that this part owns come apart chunk by chunk
        boundary_rows = ids[owner == part] - mine.start
        for index, rows in enumerate(boundary_rows.split(counts[reader, :, part].tolist())):
            sent[index].append(rows)
    # halo rows stand behind the part's own, chunk after chunk
    stops = (mine.num_nodes + counts[part].sum(dim=1).cumsum(0)).tolist()
    starts = [mine.num_nodes, *stops[:-1]]
    return [
        Route(
            torch.cat(sent[index]).to(device),
            counts[:, index, part].tolist(),
            Chunk(starts[index], stops[index]),
            counts[part, index].tolist(),
        )
        if counts[:, index].any()  # a count of the whole stage: all its parts skip the same exchanges
        else None
        for index in range(num_chunks)
    ]


@dataclass(frozen=True)
class HaloRoutes:
    """The routes of a rank, chunk by chunk; None where nothing travels."""

    forward: list[Route | None]
    """Routes of input rows."""
    backward: list[Route | None]
    """Routes of gradients; on undirected graphs they are the same ones."""

    @property
    def nowhere(self) -> HaloRoutes:
        """For the same chunks, routes on which nothing travels."""
        nothing: list[Route | None] = [None] * len(self.forward)
        return HaloRoutes(nothing, nothing)


@dataclass(frozen=True)
class PendingHalo:
    """Rows on their way into a tensor, which must not be read before `Halo.wait`."""

    transfers: list[Transfer]
    """A receive from and a send to each other part. One all-to-all would do, but gloo's between two ranks
    mostly sends one way and then the other."""
    sent: Tensor
    """Buffer of the rows that leave, kept alive until they have left."""
    posted: float
    """Seconds since the epoch when the exchange was posted."""


class Halo:
    """The halo exchanges of one rank with the other parts of its stage, and the time it waits for them.

    Args:
        links: the process group, and the count of bytes.
        clock: times the waits.
        place: place of this rank in the plan.
    """

    def __init__(self, links: Links, clock: Clock, place: Place) -> None:
        self._links, self._clock, self._place = links, clock, place
        self._waits: list[HaloWait] = []
        ranks = [
            place.stage * place.num_parts + part for part in range(place.num_parts) if part != place.part
        ]
        self._others = f"boundary rows of rank {' or '.join(map(str, ranks))}"

    def post(self, rows: Tensor, into: Tensor, route: Route, kind: str = COMMUNICATION_GRAPH) -> PendingHalo:
        """Send the boundary rows among ``rows`` and receive halo rows into ``into``, without waiting.

        Args:
            rows: ``[num_rows, width]``, the part's own rows first.
            into: ``[num_arriving, width]``, contiguous, of the same number format.
            route: route of the chunk; every part of the stage posts the same chunk.
            kind: kind under which the bytes are counted.
        """
        # a copy of the rows, so that the table may change while they travel
        outgoing = rows.index_select(0, route.send)
        return self._exchange(outgoing, route.send_splits, into, route.arrive_splits, kind)

    def post_back(self, rows: Tensor, into: Tensor, route: Route) -> PendingHalo:
        """Send halo rows back to their owners, over the route on which they came, without waiting.

        Args:
            rows: ``[num_rows, width]``, the part's own rows first, then its halo's.
            into: ``[sum(send_splits), width]``, contiguous: gets what the readers of the part's boundary rows
                send, in the order of ``route.send``.
            route: route of the chunk; every part of the stage posts the same chunk.
        """
        # a copy, so that the table may change while they travel
        outgoing = rows[route.arrive.start : route.arrive.stop].clone()
        return self._exchange(outgoing, route.arrive_splits, into, route.send_splits, COMMUNICATION_GRAPH)

    def _exchange(
        self, outgoing: Tensor, out_splits: list[int], into: Tensor, in_splits: list[int], kind: str
    ) -> PendingHalo:
        self._links.bytes_sent[kind] += outgoing.nbytes
        transfers = self._links.carrier.exchange(
            self._pieces(into, in_splits), self._pieces(outgoing, out_splits), self._links.halo
        )
        return PendingHalo(transfers, outgoing, self._clock.glance())

    def _pieces(self, rows: Tensor, splits: list[int]) -> list[tuple[Tensor, int]]:
        """``rows`` split by part, each piece with the rank of its part; parts with 0 rows are left out."""
        pieces = rows.view(torch.uint8).split(splits)  # as bytes: not every backend knows bf16
        first = self._place.stage * self._place.num_parts
        return [(piece, first + part) for part, piece in enumerate(pieces) if piece.numel()]

    def wait(self, arrival: PendingHalo) -> None:
        """Wait until the halo rows have arrived, and note how long that took."""
        asked = self._clock.glance()
        with self._links.waiting.on(self._others):
            for transfer in arrival.transfers:
                transfer.wait()
        self._links.waiting.later(self._others, arrival.sent.device)
        self._waits.append(HaloWait(arrival.posted, asked, self._clock.glance()))

    def take_waits(self) -> tuple[HaloWait, ...]:
        """The waits since the last call, in the order of the exchanges, which all parts of a stage share."""
        waits = tuple(self._waits)
        self._waits.clear()
        return waits
