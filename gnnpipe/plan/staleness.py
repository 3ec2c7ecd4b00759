"""Staleness settings: presets, and the chunk order of every epoch. Imports nothing heavy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TypeVar, get_args

from gnnpipe.base.config import (
    Gradient,
    History,
    OptimizerConfig,
    Order,
    RunConfig,
    StalenessConfig,
)
from gnnpipe.base.errors import ConfigError, check_choice


@dataclass(frozen=True)
class Preset:
    """Values for what a user leaves open."""

    staleness: StalenessConfig
    optimizer: OptimizerConfig


_CORRECTED = StalenessConfig("default", "shuffled", 1, "corrected", 0.7, "dropped", 5)
PRESETS: dict[str, Preset] = {
    # Measured to come within half a point of exact training where others fall behind or diverge.
    "default": Preset(_CORRECTED, OptimizerConfig(betas=(0.0, 0.99), averaging=0.9)),
    # The original system's three techniques, with the customary Adam.
    "paper": Preset(
        StalenessConfig("paper", "shuffled", 23, "fresh", 0.0, "dropped", 1),
        OptimizerConfig(betas=(0.9, 0.999), averaging=0.0),
    ),
    # One chunk: everything is computed before it is read.
    "exact": Preset(
        StalenessConfig("exact", "fixed", 1, "reuse", 0.0, "dropped", 1),
        OptimizerConfig(betas=(0.9, 0.999), averaging=0.9),
    ),
}


def resolve_staleness(config: RunConfig) -> RunConfig:
    """Fill in what the preset decides; ``exact`` also sets one chunk.

    Raises:
        ConfigError: an unknown name or a number out of range.
    """
    check_choice("staleness", config.staleness.preset, PRESETS)
    preset = PRESETS[config.staleness.preset]
    staleness = _filled(config.staleness, preset.staleness)
    optimizer = _filled(config.optimizer, preset.optimizer)
    _check(staleness)
    chunks = 1 if staleness.preset == "exact" else config.chunks
    return replace(config, staleness=staleness, optimizer=optimizer, chunks=chunks)


def chunk_orders(order: Order, num_chunks: int, seed: int) -> Iterator[list[int]]:
    """Yield the chunk order of epoch 0, 1, 2 ...; the same on every rank.

    shuffled draws a permutation each epoch, antithetic runs every other one in reverse, so that each ordered
    pair of chunks is fresh exactly once in two epochs, and fixed is 0, 1, 2 ... each time.
    """
    rng = random.Random(seed)
    current = list(range(num_chunks))
    epoch = 0
    while True:
        if order == "antithetic" and epoch % 2:
            current.reverse()
        elif order != "fixed":
            current = rng.sample(range(num_chunks), num_chunks)
        yield list(current)
        epoch += 1


@dataclass(frozen=True)
class GradientRule:
    """What a chunk's row of ``D`` weighs when another chunk pulls it.

    A row d that this epoch already has counts ``fresh * d - corrected * d_prev``; a row that it does not
    have yet counts ``historical * d_prev``. A chunk's own rows count once.
    """

    fresh: float
    corrected: float
    historical: float


def gradient_rule(gradient: Gradient, weight: float) -> GradientRule:
    """The three weights of a `gradient` setting.

    fresh doubles fresh rows because a pair of chunks is fresh with probability 1/2; corrected adds last
    epoch's row as a control variate of mean 0: 1/2 (2 d - w d_prev) + 1/2 (w d_prev) = d.
    """
    return {
        "fresh": GradientRule(2.0, 0.0, 0.0),
        "reuse": GradientRule(1.0, 0.0, 1.0),
        "corrected": GradientRule(2.0, weight, weight),
    }[gradient]


_Section = TypeVar("_Section", StalenessConfig, OptimizerConfig)


def _filled(chosen: _Section, preset: _Section) -> _Section:
    """``chosen`` with every None replaced by the preset's value."""
    open_fields = [field.name for field in fields(chosen) if getattr(chosen, field.name) is None]
    return replace(chosen, **{name: getattr(preset, name) for name in open_fields})


def _check(staleness: StalenessConfig) -> None:
    for key, choices in (("order", Order), ("gradient", Gradient), ("history", History)):
        check_choice(f"staleness.{key}", getattr(staleness, key), get_args(choices))
    for key in ("freeze", "dropout_hold"):
        if getattr(staleness, key) < 1:
            raise ConfigError(
                f"staleness.{key}: {getattr(staleness, key)} is too small; use 1 or more epochs"
            )
    assert staleness.weight is not None
    if not 0 <= staleness.weight <= 1:
        raise ConfigError(f"staleness.weight: {staleness.weight} is out of range; use 0 to 1")
