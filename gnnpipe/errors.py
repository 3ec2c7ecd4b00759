"""The exceptions of gnnpipe.

GnnpipeError
|-- UserError (ValueError)      a user can mend it; the command line prints one line and exits with 2
|   |-- ConfigError             a flag or a field of a config file
|   |-- DataError               a data set, its files or its contents
|   |-- PlanError               stages, parts and chunks that do not fit the model or the graph
|   `-- CheckpointError         a checkpoint that is damaged or belongs to another run
`-- TrainingError               a run that had to stop (a rank failed, the loss is not finite)
    `-- LostRankError           a process died or gave no answer; a second try may succeed
StoppedError (KeyboardInterrupt)  a signal told the process to end
"""

from __future__ import annotations

import difflib
import itertools
import re
import signal
from collections.abc import Iterable, Iterator

# A message repeats at most this many characters of a user's value.
MOST_SHOWN = 200
# `did_you_mean` suggests nothing below this similarity (difflib's ratio, 0 to 1).
LEAST_LIKENESS = 0.6


class GnnpipeError(Exception):
    """Base of every error that gnnpipe raises on purpose."""

    said = False
    """Whether another process of the run shows the error to the user."""


class UserError(GnnpipeError, ValueError):
    """Something a user can mend; the message names the key, its value, the values allowed and a way out."""


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
    """A process of the run died or gave no answer; the same run may succeed when it is started again."""


class StoppedError(KeyboardInterrupt):
    """A signal told this process to end.

    Args:
        number: number of the signal.
        words: tells the user how much of the work is saved; None where another process prints it.
    """

    def __init__(self, number: int, words: str | None = "") -> None:
        super().__init__(number, words)  # pickle rebuilds an exception from these arguments
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


def shown(value: object, limit: int = MOST_SHOWN) -> str:
    """A user's value as a message repeats it: on one line, cut at ``limit`` characters.

    Nested values are turned into text only as far as they are shown: a few aliases in a YAML file can stand
    for an object with a text that fills the memory.

    >>> shown("a" * 300, limit=12)
    'aaaaaaaaaaaa... (300 characters)'
    """
    if isinstance(value, str):
        text = " ".join(value[: 2 * limit].split())
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
        cut = len(text) > limit or len(value) > 2 * limit
        return f"{text[:limit]}... ({len(value):,} characters)" if cut else text
    pieces, length = [], 0
    for piece in _text_pieces(value):
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            return "".join(pieces)[:limit] + "..."
    return "".join(pieces)


def _text_pieces(value: object) -> Iterator[str]:
    """The text of a value, piece by piece, so that the caller can stop early."""
    if isinstance(value, dict):
        for index, (key, entry) in enumerate(value.items()):
            yield ", " if index else "{"
            yield f"{shown(key)}: "
            yield from _text_pieces(entry)
        yield "}" if value else "{}"
    elif isinstance(value, list | tuple):
        yield "["
        for index, entry in enumerate(value):
            yield ", " if index else ""
            yield from _text_pieces(entry)
        yield "]"
    elif isinstance(value, int) and value.bit_length() > MOST_SHOWN:
        yield f"a whole number of {value.bit_length()} bits"
    else:
        yield shown(str(value))


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the choice nearest to ``value``, or an empty string.

    A choice that begins with the value is preferred, then the choice with the most letters in common; letters
    at the beginning count twice. Letter case and leading dashes are ignored.

    >>> did_you_mean("gncii", ["gcn", "gcnii"])
    "; did you mean 'gcnii'?"
    >>> did_you_mean("a500", ["a100", "a5000x8"])
    "; did you mean 'a5000x8'?"
    """
    wanted = value.lower().lstrip("-")[:MOST_SHOWN]
    scored = [(_likeness(wanted, choice.lower().lstrip("-")), choice) for choice in choices]
    likeness, nearest = max(scored, key=lambda pair: pair[0], default=(0.0, ""))
    return f"; did you mean '{nearest}'?" if wanted and likeness >= LEAST_LIKENESS else ""


def _likeness(wanted: str, choice: str) -> float:
    """How likely it is that ``wanted`` was meant to be ``choice``: from 0 to 3."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(wanted, choice, strict=False))
    common_start = sum(1 for _ in same) / max(len(wanted), len(choice), 1)
    ratio = difflib.SequenceMatcher(None, wanted, choice).ratio()
    # 2 to 3: an abbreviation, or the same words in another order ("history-clean" for "clean-history")
    if choice.startswith(wanted):
        return 2.0 + common_start
    wanted_words, choice_words = set(re.split(r"[-_.]", wanted)), set(re.split(r"[-_.]", choice))
    if len(wanted_words) > 1 and wanted_words <= choice_words:
        return 2.0 + ratio
    # 0 to 2: typing errors; a word with little in common gets nothing for its first letters
    return ratio + common_start if ratio >= LEAST_LIKENESS else ratio


def not_known(value: object, choices: Iterable[str], then: str) -> str:
    """Words for an unknown value, as in ``'a500' is not known; did you mean 'a5000x8'? Use one of ...``.

    Args:
        value: the value that was given.
        choices: the values that exist; all are listed.
        then: verb in front of the list, such as ``choose``.
    """
    known = list(choices)
    hint = did_you_mean(value if isinstance(value, str) else "", known)
    verb = f" {then.capitalize()}" if hint else f"; {then}"
    return f"'{shown(value)}' is not known{hint}{verb} one of {', '.join(known)}"


def check_choice(key: str, value: str | None, choices: Iterable[str]) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``."""
    known = list(choices)
    if value not in known:
        raise ConfigError(f"{key}: {not_known(value, known, 'choose')}")
