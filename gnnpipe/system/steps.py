"""Steps of long work, each shown while it is being done."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Step = Callable[[str], AbstractContextManager[None]]
"""Shows, as long as its context is open, what is being done."""


def silently(_: str) -> AbstractContextManager[None]:
    """A `Step` that shows nothing."""
    return nullcontext()
