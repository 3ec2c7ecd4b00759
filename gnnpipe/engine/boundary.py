"""The boundary of a table: keeps its halo rows up to date, with this epoch's rows or last epoch's.

# exact   post c0 | pull what is at hand | wait for c0 | pull the rest | post c1 | ...
# stale   post c0 | pull with the halo rows of last epoch              | post c1 | ...
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gnnpipe.comm.halo import Halo, PendingHalo, Route
from gnnpipe.graph.cut.chunks import Chunk


class Boundary(Protocol):
    """A boundary of either kind."""

    def begin_epoch(self) -> None:
        """Prepare for an epoch's first `post`."""

    def post(self, chunk: int) -> None:
        """Send a chunk's boundary rows from the table; all parts of the stage post the same chunk."""

    def wait(self, chunk: int) -> Chunk | None:
        """Wait until the chunk's halo rows may be read.

        Returns:
            the rows of the table that hold them; None if no rows travel, or they are last epoch's.
        """

    def settle(self) -> None:
        """Wait for all rows that are still under way."""

    def state(self) -> dict[str, Tensor]:
        """The halo rows that no owner's table has between two epochs, so that a checkpoint must hold them."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from the `state` of another run."""


class ExactBoundary:
    """Halo rows of this epoch: they travel straight into the table.

    Args:
        halo: sends and receives.
        routes: route of each chunk.
        tensors: tensors of ``[num_rows, width]`` whose boundary rows travel, each of the part's own rows and
            then its halo's.
    """

    def __init__(self, halo: Halo, routes: list[Route | None], tensors: list[Tensor]) -> None:
        self._halo, self._routes, self._tensors = halo, routes, tensors
        self._under_way: list[PendingHalo] = []

    def begin_epoch(self) -> None:
        """Do nothing: nothing is under way between two epochs."""

    def post(self, chunk: int) -> None:
        route = self._routes[chunk]
        if route is not None:
            self._under_way = [
                self._halo.post(rows, rows[route.arrive.start : route.arrive.stop], route)
                for rows in self._tensors
            ]

    def wait(self, chunk: int) -> Chunk | None:
        # a chunk is waited for before the next one is posted, so that no other is under way
        self.settle()
        route = self._routes[chunk]
        return None if route is None else route.arrive

    def settle(self) -> None:
        for pending in self._under_way:
            self._halo.wait(pending)
        self._under_way = []

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        pass


class StaleBoundary:
    """Halo rows of the last epoch: they have a whole epoch to travel, and are read in the next one.

    The scheme of PipeGCN (arXiv 2203.10428). Rows are zero in the first epoch.

        # epoch             1                       2
        # post              c0 .. c1 ..             c0 ..                 c1 ..
        # incoming buffer   filled by epoch 1 ----> copied, then filled by epoch 2
        # table             rows of epoch 0         rows of epoch 1, from the first post on

    Args:
        halo: sends and receives.
        routes: route of each chunk.
        rows: rows of the table, ``[num_rows, width]``.
    """

    def __init__(self, halo: Halo, routes: list[Route | None], rows: Tensor) -> None:
        self._halo, self._routes, self._rows = halo, routes, rows
        arriving = [route.arrive for route in routes if route is not None]
        self._first = arriving[0].start if arriving else len(rows)
        self._incoming = torch.zeros_like(rows[self._first :])
        self._under_way: list[PendingHalo] = []
        self._posted = False  # any rows yet, in this epoch or an earlier one
        self._turns = False  # whether the next post first moves the incoming rows into the table

    def begin_epoch(self) -> None:
        """Let this epoch's first `post` move last epoch's rows into the table, not this call: late rows have
        until then to arrive."""
        self._turns = self._posted

    def post(self, chunk: int) -> None:
        # all of last epoch's rows must have arrived before one of this epoch's is received in their place
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
        """Return at once: the table already holds the rows that may be read."""

    def settle(self) -> None:
        for pending in self._under_way:
            self._halo.wait(pending)
        self._under_way = []

    def state(self) -> dict[str, Tensor]:
        """The rows in the table, of last epoch, and those of this epoch, which the next one will read."""
        self.settle()
        return {"halo": self._rows[self._first :], "incoming": self._incoming}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._rows[self._first :] = state["halo"]
        self._incoming.copy_(state["incoming"])
        self._posted = True
