"""``gnnpipe show RUN``: the summary again, and pictures."""

from __future__ import annotations

import importlib


def run(arguments: list[str]) -> int:
    """Show as ``arguments`` say; return the exit code."""
    raise NotImplementedError
