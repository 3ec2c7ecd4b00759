"""Ending a rank at once when it is told to, even while it waits inside a collective."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def end_on_signal(farewell: Callable[[str], None]) -> None:
    """End this process on Ctrl-C or SIGTERM after calling ``farewell`` with "interrupted" or "stopped".

    A launcher sends SIGTERM too, when another rank has failed.

    A Python signal handler only runs between bytecodes, and a rank spends its life in C++ waits. So the two
    signals are blocked, and a thread of their own waits for them. Call before other threads start.
    """
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        received = signal.sigwait(signals)
        farewell("interrupted" if received == signal.SIGINT else "stopped")
        os._exit(128 + received)

    threading.Thread(target=wait, daemon=True, name="signals").start()
