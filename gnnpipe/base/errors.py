"""The exceptions of gnnpipe.

GnnpipeError
|-- UserError (ValueError)      a user can mend it; the command line prints one line and exits with 2
|   |-- ConfigError             a flag or a field of a config file
|   |-- DataError               a data set, its files or its contents
|   `-- PlanError               stages, parts and chunks that do not fit the model or the graph
`-- TrainingError               a run that had to stop (a rank failed, the loss is not finite)
StoppedError (KeyboardInterrupt)  a signal told the process to end
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class GnnpipeError(Exception):
    """Base of every error that gnnpipe raises on purpose."""


class UserError(GnnpipeError, ValueError):
    """Something a user can mend; the message names the key, the value, what was expected and the cure."""


class ConfigError(UserError):
    """A flag or a configuration field with a value that can't be used."""


class DataError(UserError):
    """A data set that is unknown, absent or malformed."""


class PlanError(UserError):
    """Stages, parts or chunks that do not fit the model, the graph or the processes."""


class CheckpointError(UserError):
    """A checkpoint that is damaged, or does not fit the run that is to go on from it."""


class TrainingError(GnnpipeError, RuntimeError):
    """A run that had to stop: a rank failed, or the loss is not finite."""


class LostRankError(TrainingError):
    """A process of the run died or gave no answer; begun again, the run may go well."""


class StoppedError(KeyboardInterrupt):
    """A signal told this process to end.

    Args:
        number: of the signal.
        words: what is left of the work, for the user; None where another process says so.
    """

    def __init__(self, number: int, words: str | None = "") -> None:
        super().__init__(number, words)  # so that it can be pickled
        self.number, self.words = number, words

    def __str__(self) -> str:
        how = how_it_ended(self.number)
        return f"{how}; {self.words}" if self.words else how


def how_it_ended(number: int) -> str:
    """``interrupted`` by Ctrl-C, ``stopped`` by any other signal."""
    return "interrupted" if number == signal.SIGINT else "stopped"


def exit_code(error: GnnpipeError) -> int:
    """2 for what a user can mend, 1 for a run that had to stop."""
    return 2 if isinstance(error, UserError) else 1


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the choice nearest to ``value``, or an empty string.

    Letter case is ignored.

    >>> did_you_mean("gncii", ["gcn", "gcnii"])
    "; did you mean 'gcnii'?"
    """
    by_lower = {choice.lower(): choice for choice in choices}
    nearest = difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[nearest[0]]}'?" if nearest else ""


def check_choice(key: str, value: str | None, choices: Iterable[str]) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``."""
    known = list(choices)
    if value not in known:
        raise ConfigError(
            f"{key}: '{value}' is not known; choose one of {', '.join(known)}"
            f"{did_you_mean(value or '', known)}"
        )
