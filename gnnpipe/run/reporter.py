"""Who shows a run while it goes on."""

from __future__ import annotations

from typing import Any, Protocol


class Reporter(Protocol):
    """Shows a run while it goes on; called on rank 0 only."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """No epoch follows."""

    def say(self, line: str) -> None:
        """Print one line."""
