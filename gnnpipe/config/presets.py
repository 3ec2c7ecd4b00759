"""Presets: what a run does about stale rows where the user leaves it open."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TypeVar, get_args

from gnnpipe.config.run import (
    Gradient,
    History,
    OptimizerConfig,
    Order,
    RunConfig,
    StalenessConfig,
)
from gnnpipe.errors import ConfigError, check_choice, shown


@dataclass(frozen=True)
class Preset:
    """Values for what a user leaves open."""

    staleness: StalenessConfig
    optimizer: OptimizerConfig


PRESETS: dict[str, Preset] = {
    # What benchmarks/convergence found to hold on every graph; docs/staleness.md says why.
    "default": Preset(
        StalenessConfig("default", "shuffled", 1, "reuse", 0.7, "dropped", 1, 0, 0),
        OptimizerConfig(betas=(0.5, 0.9), averaging=0.9, schedule="constant", warmup=0, clip=0.0),
    ),
    # The original system's three techniques, with the customary Adam.
    "paper": Preset(
        StalenessConfig("paper", "shuffled", 23, "fresh", 0.7, "dropped", 1, 0, 0),  # fresh uses no weight
        OptimizerConfig(betas=(0.9, 0.999), averaging=0.0, schedule="constant", warmup=0, clip=0.0),
    ),
    # One chunk, or a lookahead as wide as the graph: everything is computed before it is read.
    "exact": Preset(
        StalenessConfig("exact", "fixed", 1, "reuse", 1.0, "dropped", 1, 0, "exact"),
        OptimizerConfig(betas=(0.9, 0.999), averaging=0.9, schedule="constant", warmup=0, clip=0.0),
    ),
}


def resolve_staleness(config: RunConfig) -> RunConfig:
    """Fill in what the preset decides.

    Raises:
        ConfigError: an unknown name or a number out of range.
    """
    check_choice("staleness", config.staleness.preset, PRESETS)
    preset = PRESETS[config.staleness.preset]
    staleness = _filled(config.staleness, preset.staleness)
    optimizer = _filled(config.optimizer, preset.optimizer)
    _check(staleness)
    return replace(config, staleness=staleness, optimizer=optimizer)


def check_statistics(config: RunConfig) -> None:
    """Refuse settings of a resolved config whose gradient is wrong on average, in all epochs alike.

    ``fresh`` and ``corrected`` divide fresh rows by the probability that a pair of chunks is fresh, which is
    right on average if each pair is fresh as often as any other: in an order that is drawn anew, or reversed
    every other epoch. In a fixed order the same pairs are fresh for ever, and the others never are.

    Raises:
        ConfigError: with the way out.
    """
    staleness = config.staleness
    if not _may_be_stale(config):
        return
    if staleness.order == "fixed" and staleness.gradient in ("fresh", "corrected"):
        raise ConfigError(
            f"staleness.gradient: {staleness.gradient} contradicts --staleness.order fixed, under which the "
            "same pairs of chunks are fresh in every epoch: they would count double for ever, and the others "
            "never; use --staleness.order shuffled or antithetic, --staleness.gradient reuse, or --chunks 1"
        )


def _may_be_stale(config: RunConfig) -> bool:
    """Whether chunks may read rows of an earlier epoch, as far as that is known without a graph."""
    lookahead = parse_lookahead(config.staleness.lookahead)
    chunks = 1 if config.chunks is None and config.stages == 1 and config.plan == "given" else config.chunks
    if lookahead is None or config.staleness.preset == "exact":
        return False
    return chunks is None or chunks > lookahead + 1


Freeze = tuple[tuple[int, int], ...]
"""Pairs (epoch, R): from that epoch on a snapshot is taken every R epochs."""


def parse_freeze(freeze: int | str) -> Freeze:
    """``23``, or ``1,23@20``: every epoch at first, from epoch 20 on every 23.

    Raises:
        ConfigError: another form.
    """
    result: list[tuple[int, int]] = []
    for item in str(freeze).split(","):
        found = re.fullmatch(r"(\d{1,9})(?:@(\d{1,9}))?", item.strip())
        start = int(found[2] or 0) if found else 0
        in_order = start > result[-1][0] if result else start == 0
        if not found or int(found[1]) < 1 or not in_order:
            raise ConfigError(
                f"staleness.freeze: '{shown(freeze)}' can't be used; write a number of epochs, 1 or more, or "
                "a schedule such as 1,23@20 (every epoch, from epoch 20 on every 23)"
            )
        result.append((start, int(found[1])))
    return tuple(result)


def parse_weight(weight: float | str | None) -> float | None:
    """The weight of last epoch's gradients; None for ``fitted``.

    Raises:
        ConfigError: another word, or a number out of range.
    """
    if weight == "fitted":
        return None
    if isinstance(weight, str) or weight is None or not 0 <= weight <= 1:
        raise ConfigError(
            f"staleness.weight: '{shown(weight)}' can't be used; use a number from 0 to 1, or fitted"
        )
    return weight


def parse_lookahead(lookahead: int | str | None) -> int | None:
    """Positions to look ahead; None for ``exact``.

    Raises:
        ConfigError: another word, or a negative number.
    """
    if lookahead == "exact":
        return None
    if isinstance(lookahead, str) or lookahead is None or lookahead < 0:
        raise ConfigError(
            f"staleness.lookahead: '{shown(lookahead)}' can't be used; use a number of chunks, 0 or more, or "
            "exact"
        )
    return lookahead


_Section = TypeVar("_Section", StalenessConfig, OptimizerConfig)


def _filled(chosen: _Section, preset: _Section) -> _Section:
    """``chosen`` with every None replaced by the preset's value."""
    open_fields = [field.name for field in fields(chosen) if getattr(chosen, field.name) is None]
    return replace(chosen, **{name: getattr(preset, name) for name in open_fields})


def _check(staleness: StalenessConfig) -> None:
    for key, choices in (("order", Order), ("gradient", Gradient), ("history", History)):
        check_choice(f"staleness.{key}", getattr(staleness, key), get_args(choices))
    assert staleness.freeze is not None
    assert staleness.refresh is not None
    parse_freeze(staleness.freeze)
    parse_weight(staleness.weight)
    parse_lookahead(staleness.lookahead)
    for key, least in (("dropout_hold", 1), ("refresh", 0)):
        if getattr(staleness, key) < least:
            raise ConfigError(
                f"staleness.{key}: {getattr(staleness, key)} is too small; use {least} or more epochs"
            )
