"""A sign of life during work that takes long and has no epochs to count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

PATIENCE = 3.0
"""Seconds after which a log, which has no spinner, says what is being done."""


@contextmanager
def busy(what: str, *, plain: bool = False) -> Iterator[None]:
    """Say what is being done: a spinner on a terminal, elsewhere one line after `PATIENCE` seconds.

    It goes to stderr, as another program may read what a command prints.

    Args:
        what: the work, as in ``loading Cora``.
        plain: whether to show no spinner even on what passes for a terminal.
    """
    forced = False if plain else None
    console = Console(
        stderr=True, highlight=False, soft_wrap=True, force_terminal=forced, force_jupyter=forced
    )
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
