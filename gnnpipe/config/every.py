"""Intervals in epochs or minutes, as of checkpoints. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gnnpipe.errors import ConfigError, shown


@dataclass(frozen=True)
class Every:
    """An interval in epochs or in seconds; never if both are 0."""

    epochs: int = 0
    seconds: float = 0.0

    @property
    def ever(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.epochs or self.seconds)


def parse_every(text: int | str) -> Every:
    """Parse ``20`` (every 20 epochs), ``15min`` (every 15 minutes) or ``0`` (never).

    Raises:
        ConfigError: another form.
    """
    found = re.fullmatch(r"(\d{1,9})(\s*min)?", str(text).strip())
    if not found:
        raise ConfigError(
            f"checkpoint-every: '{shown(text)}' can't be used; write a number of epochs such as 20, minutes "
            "as in 15min, or 0 for never"
        )
    number = int(found[1])
    return Every(seconds=60.0 * number) if found[2] else Every(epochs=number)
