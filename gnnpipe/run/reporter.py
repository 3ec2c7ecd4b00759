"""Who is told of a run while it is prepared and goes on."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from gnnpipe.config.resolved import Resolved

if TYPE_CHECKING:  # they import PyTorch, and the names here are read without
    from gnnpipe.records.folder import RunFolder
    from gnnpipe.records.plan_file import PlanFile
    from gnnpipe.records.record import EpochRecord

LOG = logging.getLogger("gnnpipe")


class Reporter(Protocol):
    """Told of a run by the process that prepares it, then by rank 0.

    Rank 0 may be another process, which gets a copy: a reporter can be pickled.
    """

    def step(self, what: str) -> AbstractContextManager[None]:
        """Something takes long that has no epochs to count, as in ``loading Cora``."""

    def say(self, line: str) -> None:
        """A line of the account of the run."""

    def warn(self, line: str) -> None:
        """A line of that account which asks for a change."""

    def remark(self, line: str, *, warning: bool = False) -> None:
        """A line beside the account: what changes, what was found in a folder, a process that was lost."""

    def start(self, config: Resolved, plan: PlanFile) -> None:
        """A run is prepared; ``plan`` is what its plan.json will hold."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """No epoch follows."""

    def end(self, folder: RunFolder) -> None:
        """The run is done, and its folder whole."""


class Quiet:
    """Shows nothing. Lines go to Python's logging, which prints warnings unless a program sets it up."""

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
        """Do nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def end(self, folder: RunFolder) -> None:
        """Do nothing."""
