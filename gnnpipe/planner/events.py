"""Simulated time, and resources that serve all who use them equally."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Simulated time, and what happens when."""

    now: float = 0.0
    number: itertools.count[int] = field(default_factory=itertools.count)
    queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call in so many seconds."""
        heapq.heappush(self.queue, (self.now + seconds, next(self.number), call))

    def run(self) -> None:
        """Let time pass until nothing happens any more."""
        while self.queue:
            self.now, _, call = heapq.heappop(self.queue)
            call()


class Event:
    """Something that others wait for."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.waiting: list[Callable[[], None]] = []


class Shared:
    """A resource that serves all its users at the same rate."""

    def __init__(self, clock: Clock, rate: Callable[[float], float]) -> None:
        self._clock, self._rate = clock, rate
        self._served = self._since = self._users = 0.0
        self._queue: list[tuple[float, int, float, Callable[[], None]]] = []
        self._version = 0

    def add(self, amount: float, users: float, done: Callable[[], None]) -> None:
        """Serve ``amount`` to each of so many users, then call ``done``."""
        self._turn()
        heapq.heappush(self._queue, (self._served + amount, next(self._clock.number), users, done))
        self._users += users
        self._plan_next()

    def _turn(self) -> None:
        if self._users:
            self._served += (self._clock.now - self._since) * self._rate(self._users)
        self._since = self._clock.now

    def _plan_next(self) -> None:
        self._version += 1
        if self._queue:
            left = max(self._queue[0][0] - self._served, 0.0)
            version = self._version
            self._clock.after(left / self._rate(self._users), lambda: self._finish(version))

    def _finish(self, version: int) -> None:
        if version != self._version:
            return
        self._turn()
        amount, _, users, done = heapq.heappop(self._queue)
        self._served = max(self._served, amount)
        self._users -= users
        if not self._queue:
            self._users = 0.0
        self._plan_next()
        done()


def core_rate(cores: int, contention: float, crowding: float = 1.0) -> Callable[[float], float]:
    """Speed of each of so many ranks on a host's cores, over that of one alone.

    Args:
        cores: of the host.
        contention: how many times as long work takes when all cores are busy.
        crowding: how many times as long it takes, besides, when there are twice as many ranks as cores. Of
            more ranks nothing is known, so they are taken to lose as much.
    """

    def rate(ranks: float) -> float:
        busy = min(ranks, cores)
        slower = 1 + (contention - 1) * (busy - 1) / max(cores - 1, 1)
        crowded = 1 + (crowding - 1) * min(max(ranks / cores - 1, 0.0), 1.0)
        return min(1.0, cores / ranks) / (slower * crowded)

    return rate
