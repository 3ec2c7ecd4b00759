"""A run's settings with nothing left open: the code above `gnnpipe.config` reads these and never a None.

Texts such as ``1,23@20`` stay as the user wrote them, because config.yaml repeats them; properties parse
them. The constructors refuse values that can't be used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from gnnpipe.config.every import Every, parse_every
from gnnpipe.config.run import (
    Gradient,
    History,
    LrSchedule,
    OptimizerConfig,
    Order,
    RunConfig,
    StalenessConfig,
)
from gnnpipe.errors import ConfigError, shown

Freeze = tuple[tuple[int, int], ...]
"""Pairs (epoch, R): from that epoch on a snapshot is taken every R epochs."""


@dataclass(frozen=True)
class StalenessSettings(StalenessConfig):
    """How stale rows are treated. The defaults are those of the preset ``default``.

    Raises:
        ConfigError: a number out of range, or a text of another form.
    """

    # benchmarks/convergence found these to work on every graph; docs/staleness.md says why.
    order: Order = "shuffled"
    freeze: int | str = 1
    gradient: Gradient = "reuse"
    weight: float | Literal["fitted"] = 0.7
    history: History = "dropped"
    dropout_hold: int = 1
    refresh: int = 0
    lookahead: int | Literal["exact"] = 0

    def __post_init__(self) -> None:
        _parse_freeze(self.freeze)
        if self.weight != "fitted" and (isinstance(self.weight, str) or not 0 <= self.weight <= 1):
            raise ConfigError(
                f"staleness.weight: '{shown(self.weight)}' can't be used; use a number from 0 to 1, or fitted"
            )
        if self.lookahead != "exact" and (isinstance(self.lookahead, str) or self.lookahead < 0):
            raise ConfigError(
                f"staleness.lookahead: '{shown(self.lookahead)}' can't be used; use a number of chunks, 0 or "
                "more, or exact"
            )
        for key, least in (("dropout_hold", 1), ("refresh", 0)):
            if getattr(self, key) < least:
                raise ConfigError(
                    f"staleness.{key}: {getattr(self, key)} is too small; use {least} or more epochs"
                )

    @property
    def snapshots(self) -> Freeze:
        """``freeze``, parsed."""
        return _parse_freeze(self.freeze)


@dataclass(frozen=True)
class OptimizerSettings(OptimizerConfig):
    """The optimiser. The defaults are those of the preset ``default``.

    Raises:
        ConfigError: a number out of range.
    """

    betas: tuple[float, float] = (0.5, 0.9)
    averaging: float = 0.9
    schedule: LrSchedule = "constant"
    warmup: int = 0
    clip: float = 0.0

    def __post_init__(self) -> None:
        if len(self.betas) != 2 or any(not 0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"optimizer.betas: {list(self.betas)} is out of range; use two numbers from 0 to below 1"
            )
        if not 0 <= self.averaging < 1:
            raise ConfigError(f"optimizer.averaging: {self.averaging} is out of range; use 0 to below 1")


@dataclass(frozen=True)
class Resolved(RunConfig):
    """One training run, with nothing left to a preset; made by `gnnpipe.config.presets.resolve`.

    Raises:
        ConfigError: ``checkpoint_every`` has another form.
    """

    staleness: StalenessSettings = field(default_factory=StalenessSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        parse_every(self.checkpoint_every)

    @property
    def checkpoints(self) -> Every:
        """``checkpoint_every``, parsed."""
        return parse_every(self.checkpoint_every)


def _parse_freeze(freeze: int | str) -> Freeze:
    """Parse ``23`` (a snapshot every 23 epochs) or ``1,23@20`` (every epoch, from epoch 20 on every 23).

    Raises:
        ConfigError: another form.
    """
    result: list[tuple[int, int]] = []
    for period in str(freeze).split(","):
        match = re.fullmatch(r"(\d{1,9})(?:@(\d{1,9}))?", period.strip())
        start = int(match[2] or 0) if match else 0
        in_order = start > result[-1][0] if result else start == 0
        if not match or int(match[1]) < 1 or not in_order:
            raise ConfigError(
                f"staleness.freeze: '{shown(freeze)}' can't be used; write a number of epochs, 1 or more, or "
                "a schedule such as 1,23@20 (every epoch, from epoch 20 on every 23)"
            )
        result.append((start, int(match[1])))
    return tuple(result)
