"""Simulated time, events, and resources that serve all their users at the same rate."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Simulated time, and a queue of the calls that it will make."""

    now: float = 0.0
    """Seconds since the start of the epoch."""
    number: itertools.count[int] = field(default_factory=itertools.count)
    """Breaks ties: calls for the same moment are made in the order in which they were asked for."""
    queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    """Heap of moments and calls; the earliest comes first."""

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Make a call ``seconds`` from now, in simulated time."""
        heapq.heappush(self.queue, (self.now + seconds, next(self.number), call))

    def run(self) -> None:
        """Jump from call to call until none is left; calls may ask for further ones."""
        while self.queue:
            self.now, _, call = heapq.heappop(self.queue)
            call()


class Event:
    """Something that ranks wait for: it fires once, and all who wait go on."""

    def __init__(self) -> None:
        self.at: float | None = None  # when it fired
        self.waiting: list[Callable[[], None]] = []


class Shared:
    """A resource that serves all its users at the same rate: cores, a link, a memory bus.

    # A wants 3 units, B joins later and wants 1; together each gets half the rate:
    #
    #   time     0   1   2   3   4
    #   rate A   1   1   .5  .5        A has 3 at time 4
    #   rate B           .5  .5        B has 1 at time 4
    #   served   0   1   2  2.5  3     units got by a user who was there from the start
    #
    # Since all users present get the same, one number, ``served``, measures the progress of all of them. A
    # user who joins now and wants an amount is done when it has reached ``served + amount``: the next one to
    # finish is the first of a heap, and nobody's remainder has to be updated when others join.

    Args:
        clock: the simulated time.
        rate: units a second that each of a number of users gets.
    """

    def __init__(self, clock: Clock, rate: Callable[[float], float]) -> None:
        self._clock, self._rate = clock, rate
        self._served = self._since = self._users = 0.0
        self._queue: list[tuple[float, int, float, Callable[[], None]]] = []
        # A call for the next finish stays in the clock's queue when a new user makes it untrue; only the call
        # of the newest version counts.
        self._version = 0

    def add(self, amount: float, users: float, done: Callable[[], None]) -> None:
        """Serve ``amount`` to each of a number of users, then call ``done`` once.

        Parts that are alike join as one entry of several users.
        """
        self._turn()
        heapq.heappush(self._queue, (self._served + amount, next(self._clock.number), users, done))
        self._users += users
        self._plan_next()

    def _turn(self) -> None:
        """Bring ``served`` up to now, at the rate since the last change of users."""
        if self._users:
            self._served += (self._clock.now - self._since) * self._rate(self._users)
        self._since = self._clock.now

    def _plan_next(self) -> None:
        """Ask the clock for a call when the next user will be done, if nobody joins or leaves before."""
        self._version += 1
        if self._queue:
            left = max(self._queue[0][0] - self._served, 0.0)
            version = self._version
            self._clock.after(left / self._rate(self._users), lambda: self._finish(version))

    def _finish(self, version: int) -> None:
        if version != self._version:
            return  # users have changed since; a later call has replaced this one
        self._turn()
        amount, _, users, done = heapq.heappop(self._queue)
        self._served = max(self._served, amount)  # rounding may leave it a little short
        self._users -= users
        if not self._queue:
            self._users = 0.0  # sums of floats need not come back to 0
        self._plan_next()
        done()


def core_rate(cores: int, contention: float, crowding: float = 1.0) -> Callable[[float], float]:
    """Speed of each of a number of ranks that compute on a host's cores, relative to one that computes alone.

    Args:
        cores: number of cores of the host.
        contention: slowdown when all cores are busy.
        crowding: slowdown at two ranks per core (oversubscription), on top of `contention`. More ranks per
            core were not measured, and are taken to lose as much.
    """

    def rate(ranks: float) -> float:
        # contention grows linearly from one busy core to all, crowding from one rank per core to two
        busy = min(ranks, cores)
        slower = 1 + (contention - 1) * (busy - 1) / max(cores - 1, 1)
        crowded = 1 + (crowding - 1) * min(max(ranks / cores - 1, 0.0), 1.0)
        # ranks beyond the cores take turns
        return min(1.0, cores / ranks) / (slower * crowded)

    return rate
