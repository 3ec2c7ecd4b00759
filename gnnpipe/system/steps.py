"""Steps of long work, each shown while it is being done, and lines that tell of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Step = Callable[[str], AbstractContextManager[None]]
"""Shows, as long as its context is open, what is being done."""

Say = Callable[[str], None]
"""Shows a line, such as which format is read, or a guess."""


def silently(_: str) -> AbstractContextManager[None]:
    """A `Step` that shows nothing."""
    return nullcontext()


def say_nothing(_: str) -> None:
    """A `Say` that shows nothing."""
