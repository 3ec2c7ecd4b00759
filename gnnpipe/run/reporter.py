"""Reporters: objects that show a run while it is prepared and while it trains."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from gnnpipe.config.catalog import IN_MEMORY
from gnnpipe.config.resolved import Resolved

if TYPE_CHECKING:  # these import PyTorch, which this module needs for nothing else
    from gnnpipe.records.folder import RunFolder
    from gnnpipe.records.plan_file import PlanFile
    from gnnpipe.records.record import EpochRecord

LOG = logging.getLogger("gnnpipe")


class Reporter(Protocol):
    """Shows a run. The process that prepares it calls the methods first, then rank 0.

    Rank 0 may be another process, which gets a copy, so a reporter must be picklable.
    """

    def step(self, what: str) -> AbstractContextManager[None]:
        """Show, as long as the context is open, what takes so long, as in ``loading Cora``."""

    def say(self, line: str) -> None:
        """Show a line of the run's account."""

    def warn(self, line: str) -> None:
        """Show a line of that account which advises a change."""

    def remark(self, line: str, *, warning: bool = False) -> None:
        """Show a line that is no part of the account: settings that change, a process that was lost."""

    def start(self, config: Resolved, plan: PlanFile) -> None:
        """Show the run that is about to start; ``plan`` is the content of its plan.json."""

    def epoch(self, record: EpochRecord) -> None:
        """Show an epoch that is done."""

    def close(self) -> None:
        """Stop showing progress, as no epoch follows."""

    def end(self, folder: RunFolder) -> None:
        """Show the result of a finished run, from its folder."""


class Quiet:
    """Prints nothing. Lines go to Python's logging: unless a program sets it up, it prints warnings."""

    def step(self, what: str) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def say(self, line: str) -> None:
        """Log."""
        LOG.info(line)

    def warn(self, line: str) -> None:
        """Log a warning."""
        LOG.warning(line)

    def remark(self, line: str, *, warning: bool = False) -> None:
        """Log."""
        LOG.log(logging.WARNING if warning else logging.INFO, line)

    def start(self, config: Resolved, plan: PlanFile) -> None:
        """Log notes about the graph; as warnings where it is a program's own, as they say which of its
        attributes (such as edge weights) are not used."""
        for note in plan.graph.notes:
            LOG.log(logging.WARNING if config.dataset == IN_MEMORY else logging.INFO, note)

    def epoch(self, record: EpochRecord) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def end(self, folder: RunFolder) -> None:
        """Do nothing."""
