"""What is said while something takes long that has no epochs to count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

PATIENCE = 3.0
"""Seconds after which a log says what is being done."""


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say what is being done: at once and for as long as it takes on a terminal, elsewhere as a line once it
    takes long. Goes to stderr: what a command prints may be read by another one.

    Args:
        what: as in ``loading Cora``.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with console.status(what):
            yield
        return
    timer = threading.Timer(PATIENCE, console.print, [f"{what} ..."], {"markup": False})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
