"""Presets, orders and rules."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.base.config import OptimizerConfig, RunConfig, StalenessConfig
from gnnpipe.base.errors import ConfigError
from gnnpipe.plan.staleness import chunk_orders, gradient_rule, resolve_staleness


def test_default_preset() -> None:
    resolved = resolve_staleness(RunConfig())
    assert resolved.staleness == StalenessConfig("default", "shuffled", 1, "corrected", 0.7, "dropped", 5)
    assert resolved.optimizer.betas == (0.0, 0.99)
    assert resolved.optimizer.averaging == 0.9


def test_paper_preset() -> None:
    resolved = resolve_staleness(RunConfig(staleness=StalenessConfig("paper")))
    assert (resolved.staleness.freeze, resolved.staleness.gradient) == (23, "fresh")
    assert resolved.optimizer.betas == (0.9, 0.999)


def test_exact_preset_takes_one_chunk() -> None:
    assert resolve_staleness(RunConfig(chunks=16, staleness=StalenessConfig("exact"))).chunks == 1


def test_what_is_set_by_hand_wins() -> None:
    config = RunConfig(
        staleness=StalenessConfig("paper", freeze=1), optimizer=OptimizerConfig(betas=(0.5, 0.9))
    )
    resolved = resolve_staleness(config)
    assert (resolved.staleness.freeze, resolved.staleness.gradient) == (1, "fresh")
    assert resolved.optimizer.betas == (0.5, 0.9)


def test_resolving_twice_changes_nothing() -> None:
    once = resolve_staleness(RunConfig(staleness=StalenessConfig("paper")))
    assert resolve_staleness(once) == once


@pytest.mark.parametrize(
    ("staleness", "message"),
    [
        (StalenessConfig("papre"), "staleness: 'papre' is not known.*did you mean 'paper'"),  # type: ignore[arg-type]
        (StalenessConfig(freeze=0), "staleness.freeze: 0 is too small"),
        (StalenessConfig(weight=1.5), "staleness.weight: 1.5 is out of range; use 0 to 1"),
        (StalenessConfig(gradient="stale"), "staleness.gradient: 'stale' is not known"),  # type: ignore[arg-type]
    ],
)
def test_errors(staleness: StalenessConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_staleness(RunConfig(staleness=staleness))


@given(st.integers(1, 9), st.integers(0, 99))
def test_antithetic_makes_each_ordered_pair_fresh_once_in_two_epochs(chunks: int, seed: int) -> None:
    one, two, three, four = islice(chunk_orders("antithetic", chunks, seed), 4)
    for first, second in ((one, two), (three, four)):
        assert second == first[::-1]
        assert sorted(first) == list(range(chunks))


@given(st.integers(1, 9), st.integers(0, 99))
def test_shuffled_repeats_with_its_seed(chunks: int, seed: int) -> None:
    one = list(islice(chunk_orders("shuffled", chunks, seed), 3))
    assert one == list(islice(chunk_orders("shuffled", chunks, seed), 3))
    assert all(sorted(order) == list(range(chunks)) for order in one)


def test_shuffled_visits_every_order() -> None:
    orders = {tuple(order) for order in islice(chunk_orders("shuffled", 3, 0), 100)}
    assert len(orders) == 6


@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(0, 1))
def test_doubling_rules_are_unbiased(d: float, d_prev: float, weight: float) -> None:
    """A pair of chunks is fresh in half of the epochs; the mean of both halves is d."""
    for gradient in ("fresh", "corrected"):
        rule = gradient_rule(gradient, weight)  # type: ignore[arg-type]
        fresh = rule.fresh * d - rule.corrected * d_prev
        assert (fresh + rule.historical * d_prev) / 2 == pytest.approx(d, abs=1e-9)
