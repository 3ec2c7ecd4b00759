"""The boundary of a table: how its halo rows are kept up to date, this epoch's or last epoch's."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gnnpipe.comm.halo import Halo, PendingHalo, Route
from gnnpipe.graph.chunks import Chunk


class Boundary(Protocol):
    """Both kinds of boundary."""

    def begin_epoch(self) -> None:
        """An epoch begins."""

    def post(self, chunk: int) -> None:
        """Send a chunk's boundary rows, which the table holds by now; the other parts do the same."""

    def wait(self, chunk: int) -> Chunk | None:
        """Return when the chunk's halo rows may be read; the table's rows that arrived just now, if any."""

    def settle(self) -> None:
        """Wait for what is still under way."""

    def state(self) -> dict[str, Tensor]:
        """Between two epochs: halo rows that are not just copies of their owners' rows."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from another run's `state`."""


class ExactBoundary:
    """Halo rows of this epoch: they travel straight into the table.

    Args:
        halo: sends and receives.
        routes: of each chunk.
        tensors: hold the part's rows and then the halo's; all are exchanged.
    """

    def __init__(self, halo: Halo, routes: list[Route | None], tensors: list[Tensor]) -> None:
        self._halo, self._routes, self._tensors = halo, routes, tensors
        self._under_way: list[PendingHalo] = []

    def begin_epoch(self) -> None:
        """Nothing is left of the last one."""

    def post(self, chunk: int) -> None:
        """See `Boundary`."""
        route = self._routes[chunk]
        if route is not None:
            self._under_way = [
                self._halo.post(rows, rows[route.arrive.start : route.arrive.stop], route)
                for rows in self._tensors
            ]

    def wait(self, chunk: int) -> Chunk | None:
        """See `Boundary`."""
        self.settle()
        route = self._routes[chunk]
        return None if route is None else route.arrive

    def settle(self) -> None:
        """See `Boundary`."""
        for arrival in self._under_way:
            self._halo.wait(arrival)
        self._under_way = []

    def state(self) -> dict[str, Tensor]:
        """See `Boundary`."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `Boundary`."""


class StaleBoundary:
    """Halo rows of the last epoch: they travel beside a whole epoch, and turn up in the next one.

    The scheme of PipeGCN (arXiv 2203.10428). Rows are zero in the first epoch.

    Args:
        halo: sends and receives.
        routes: of each chunk.
        rows: the table's, ``[num_rows, width]``.
    """

    def __init__(self, halo: Halo, routes: list[Route | None], rows: Tensor) -> None:
        self._halo, self._routes, self._rows = halo, routes, rows
        found = [route.arrive for route in routes if route is not None]
        self._first = found[0].start if found else len(rows)
        self._incoming = torch.zeros_like(rows[self._first :])
        self._under_way: list[PendingHalo] = []
        self._posted = self._turns = False

    def begin_epoch(self) -> None:
        """The page turns when this epoch first posts: until then last epoch's rows have time to arrive."""
        self._turns = self._posted

    def post(self, chunk: int) -> None:
        """See `Boundary`. An epoch's first call brings last epoch's rows into the table."""
        if self._turns:
            self.settle()
            self._rows[self._first :] = self._incoming
            self._turns = False
        route = self._routes[chunk]
        if route is not None:
            arrive = route.arrive
            into = self._incoming[arrive.start - self._first : arrive.stop - self._first]
            self._under_way.append(self._halo.post(self._rows, into, route))
        self._posted = True

    def wait(self, chunk: int) -> None:
        """Nothing: the table already holds what may be read."""

    def settle(self) -> None:
        """See `Boundary`."""
        for arrival in self._under_way:
            self._halo.wait(arrival)
        self._under_way = []

    def state(self) -> dict[str, Tensor]:
        """See `Boundary`: last epoch's, and this epoch's, which the next one will turn up."""
        self.settle()
        return {"halo": self._rows[self._first :], "incoming": self._incoming}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `Boundary`."""
        self._rows[self._first :] = state["halo"]
        self._incoming.copy_(state["incoming"])
        self._posted = True
