"""Presets: values for the settings that a user leaves open."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

from gnnpipe.config.resolved import OptimizerSettings, Resolved, StalenessSettings
from gnnpipe.config.run import REUSING, LayoutConfig, OptimizerConfig, RunConfig, StalenessConfig
from gnnpipe.errors import ConfigError, check_choice


@dataclass(frozen=True)
class Preset:
    """A named set of values."""

    staleness: StalenessSettings
    optimizer: OptimizerSettings


PRESETS: dict[str, Preset] = {
    "default": Preset(StalenessSettings(), OptimizerSettings()),
    # The original system's three techniques and Adam's usual betas. Gradient "fresh" uses no weight.
    "paper": Preset(
        StalenessSettings("paper", freeze=23, gradient="fresh"),
        OptimizerSettings(betas=(0.9, 0.999), averaging=0.0),
    ),
    # One chunk, or a lookahead that covers the graph's width: each row is computed before it is read.
    "exact": Preset(
        StalenessSettings("exact", order="fixed", weight=1.0, lookahead="exact"),
        OptimizerSettings(betas=(0.9, 0.999)),
    ),
}


def resolve(config: RunConfig) -> Resolved:
    """Fill in the preset's values where the user gave none.

    Raises:
        ConfigError: an unknown name, or a number out of range.
    """
    check_choice("staleness", config.staleness.preset, PRESETS)
    preset = PRESETS[config.staleness.preset]
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    values["staleness"] = _filled(config.staleness, _of_model(preset.staleness, config.model))
    values["optimizer"] = _filled(config.optimizer, preset.optimizer)
    return Resolved(**values)


def _of_model(staleness: StalenessSettings, model: str) -> StalenessSettings:
    """A preset's values for a model: not every one does well with last epoch's gradients."""
    return (
        replace(staleness, weight=0.0)
        if staleness.preset == "default" and model not in REUSING
        else staleness
    )


def check_statistics(layout: LayoutConfig, staleness: StalenessSettings) -> None:
    """Refuse settings under which the gradient has a bias that no later epoch makes up for.

    ``fresh`` and ``corrected`` divide fresh rows by the probability that a pair of chunks is fresh, which is
    right on average if each pair is fresh as often as any other: in an order that is drawn anew, or reversed
    every other epoch. In a fixed order the same pairs are fresh for ever, and the others never are.

    Raises:
        ConfigError: a fixed chunk order with such a gradient.
    """
    if not _may_be_stale(layout, staleness):
        return
    if staleness.order == "fixed" and staleness.gradient in ("fresh", "corrected"):
        raise ConfigError(
            f"staleness.gradient: {staleness.gradient} contradicts --staleness.order fixed, under which the "
            "same pairs of chunks are fresh in every epoch: they would count double for ever, and the others "
            "never; use --staleness.order shuffled or antithetic, --staleness.gradient reuse, or --chunks 1"
        )


def _may_be_stale(layout: LayoutConfig, staleness: StalenessSettings) -> bool:
    """Whether chunks may read rows of an earlier epoch, as far as that is known without a graph."""
    chunks = 1 if layout.chunks is None and layout.stages == 1 and layout.plan == "given" else layout.chunks
    if staleness.lookahead == "exact" or staleness.preset == "exact":
        return False
    return chunks is None or chunks > staleness.lookahead + 1


_Section = TypeVar("_Section", StalenessSettings, OptimizerSettings)


def _filled(chosen: StalenessConfig | OptimizerConfig, preset: _Section) -> _Section:
    """The preset's values, except where the user has chosen one."""
    values = {field.name: getattr(chosen, field.name) for field in fields(chosen)}
    return replace(preset, **{name: value for name, value in values.items() if value is not None})
