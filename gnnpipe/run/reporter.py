"""Who shows a run while it goes on."""

from __future__ import annotations

from typing import Protocol

from gnnpipe.run.record import EpochRecord


class Reporter(Protocol):
    """Shows a run while it goes on; called on rank 0 only."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """No epoch follows."""

    def say(self, line: str) -> None:
        """Print one line."""
