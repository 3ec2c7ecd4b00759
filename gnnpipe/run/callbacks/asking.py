"""Asking the callbacks, which may live in another process, after an epoch.

    caller's process                          rank 0                      other ranks
    Host: calls callbacks  <-- record --      Listener <- Trainer         Trainer
                           --- answer -->     .............. shared by a gather ..............

Under torchrun rank 0 is the caller's process. Without callbacks nothing of this happens.
"""

from __future__ import annotations

import json
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Protocol

from gnnpipe.comm.world import World
from gnnpipe.files.typed_json import from_object, json_text
from gnnpipe.records.record import EpochRecord
from gnnpipe.run.callbacks.host import Answer, Host
from gnnpipe.system.interruption import Wish

# Ranks hear this often that rank 0 still waits for the callbacks: before they print that they wait (5 s), and
# before they time out.
SECONDS_BETWEEN_NEWS, SHARE_OF_TIMEOUT = 2.0, 0.25


class Listener(Protocol):
    """Rank 0's way to the callbacks."""

    def tell(self, message: bytes) -> None:
        """Send the message of an epoch (`Host.answer`)."""

    def answer(self, seconds: float) -> Answer | None:
        """Answer of the callbacks; None if they take longer than ``seconds``."""


class Direct:
    """Callbacks in this process."""

    def __init__(self, host: Host) -> None:
        self._host, self._answer = host, Answer()

    def tell(self, message: bytes) -> None:
        """Call them."""
        self._answer = from_object(Answer, json.loads(self._host.answer(message)))

    def answer(self, seconds: float) -> Answer:
        """Their answer."""
        return self._answer


class Remote:
    """Callbacks in the launcher's process.

    Args:
        line: the connection to it (`launch_local`).
    """

    def __init__(self, line: Connection) -> None:
        self._line = line

    def tell(self, message: bytes) -> None:
        """Send the message."""
        self._line.send_bytes(message)

    def answer(self, seconds: float) -> Answer | None:
        """Wait for the launcher, which ends this process when it ends itself."""
        if not self._line.poll(seconds):
            return None
        return from_object(Answer, json.loads(self._line.recv_bytes()))


class Audience:
    """The callbacks as all ranks see them.

    Args:
        world: the ranks.
        listener: rank 0's way to the callbacks; None on the other ranks.
        timeout: seconds that a rank waits for another.
    """

    def __init__(self, world: World, listener: Listener | None, timeout: float) -> None:
        self._world, self._listener = world, listener
        self._patience = min(SECONDS_BETWEEN_NEWS, SHARE_OF_TIMEOUT * timeout)

    def ask(self, record: EpochRecord, wish: Wish, *, late: bool = False) -> Answer:
        """Answer of the callbacks to an epoch; the same on all ranks.

        Args:
            record: of the epoch; rank 0's counts.
            wish: a signal that tells this rank to end may arrive while it waits; `Answer.signal` has it.
            late: whether they know the epoch, and it was evaluated only since.
        """
        listener = self._listener
        if listener is not None:
            told = replace(record, classes=None)
            listener.tell(json_text({"record": told, "late": late}).encode())
        while True:
            # An answer, or the news that rank 0 still waits: the other ranks' own waits must not time out.
            answer = listener.answer(self._patience) if listener is not None else None
            found = self._world.gather((answer, wish.number))
            if found[0][0] is not None:
                signals = (number for _, number in found if number)
                return replace(found[0][0], signal=found[0][0].signal or next(signals, 0))
