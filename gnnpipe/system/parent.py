"""No process outlives the one that started it, however that ends."""

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
    """End this process if its parent does meanwhile. The thread that looks is gone afterwards."""
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
    """Be killed when the parent's thread that started this process ends; nothing elsewhere than on Linux."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    except (AttributeError, OSError, TypeError):
        return
    if os.getppid() != parent:
        os._exit(1)
