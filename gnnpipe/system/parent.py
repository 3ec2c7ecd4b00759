"""Processes that end with their parent, whichever way the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LOOKS = 0.2
_PR_SET_PDEATHSIG = 1  # from sys/prctl.h


@contextmanager
def ended_with(parent: int) -> Iterator[None]:
    """End this process if its parent ends while the context lasts.

    A thread polls for it; it is joined at the end, so that the process may fork afterwards.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if os.getppid() != parent:
                os._exit(1)

    thread = threading.Thread(target=look, daemon=True, name="parent")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def be_killed_with(parent: int) -> None:
    """Ask Linux to kill this process when the thread that forked it ends; does nothing on other systems."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    except (AttributeError, OSError, TypeError):
        return
    # a parent that ended before the call above sends no signal any more
    if os.getppid() != parent:
        os._exit(1)
