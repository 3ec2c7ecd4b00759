"""Presets, orders and rules."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.config.checks import check_config
from gnnpipe.config.presets import resolve
from gnnpipe.config.resolved import Resolved, StalenessSettings
from gnnpipe.config.run import OptimizerConfig, RunConfig, StalenessConfig
from gnnpipe.errors import ConfigError
from gnnpipe.schedule.staleness import chunk_orders, fresh_probability, gradient_rule, snapshot_due


def test_default_preset() -> None:
    resolved = resolve(RunConfig())
    assert resolved.staleness == StalenessSettings("default", "shuffled", 1, "reuse", 0.7, "dropped", 1, 0, 0)
    assert resolved.optimizer.betas == (0.5, 0.9)
    assert resolved.optimizer.averaging == 0.9


def test_paper_preset() -> None:
    resolved = resolve(RunConfig(staleness=StalenessConfig("paper")))
    assert (resolved.staleness.freeze, resolved.staleness.gradient) == (23, "fresh")
    assert resolved.optimizer.betas == (0.9, 0.999)


def test_exact_preset_looks_ahead() -> None:
    resolved = resolve(RunConfig(staleness=StalenessConfig("exact")))
    assert resolved.staleness.lookahead == "exact"
    assert resolved.staleness.order == "fixed"


def test_what_is_set_by_hand_wins() -> None:
    config = RunConfig(
        staleness=StalenessConfig("paper", freeze=1), optimizer=OptimizerConfig(betas=(0.5, 0.9))
    )
    resolved = resolve(config)
    assert (resolved.staleness.freeze, resolved.staleness.gradient) == (1, "fresh")
    assert resolved.optimizer.betas == (0.5, 0.9)


def test_resolving_twice_changes_nothing() -> None:
    once = resolve(RunConfig(staleness=StalenessConfig("paper")))
    assert resolve(once) == once


@pytest.mark.parametrize(
    ("staleness", "message"),
    [
        (StalenessConfig("papre"), "staleness: 'papre' is not known.*did you mean 'paper'"),  # type: ignore[arg-type]
        (StalenessConfig(freeze=0), "staleness.freeze: '0' can't be used; write a number of epochs, 1 or"),
        (StalenessConfig(freeze="1,20"), "staleness.freeze: '1,20' can't be used.*schedule such as 1,23@20"),
        (StalenessConfig(freeze="1,0@20"), "staleness.freeze: '1,0@20' can't be used"),
        (StalenessConfig(freeze="1,2@x"), "staleness.freeze: '1,2@x' can't be used"),
        (StalenessConfig(freeze="1,2@9,3@5"), "staleness.freeze: '1,2@9,3@5' can't be used"),
        (StalenessConfig(freeze="23@20"), "staleness.freeze: '23@20' can't be used"),
        (
            StalenessConfig(weight=1.5),
            "staleness.weight: '1.5' can't be used; use a number from 0 to 1, or fit",
        ),
        (StalenessConfig(weight="best"), "staleness.weight: 'best' can't be used"),
        (
            StalenessConfig(lookahead=-1),
            "staleness.lookahead: '-1' can't be used; use a number of chunks, 0 or",
        ),
        (StalenessConfig(lookahead="all"), "staleness.lookahead: 'all' can't be used"),
        (StalenessConfig(refresh=-1), "staleness.refresh: -1 is too small; use 0 or more epochs"),
        (StalenessConfig(dropout_hold=0), "staleness.dropout_hold: 0 is too small; use 1 or more epochs"),
        (StalenessConfig(gradient="stale"), "staleness.gradient: 'stale' is not known"),  # type: ignore[arg-type]
    ],
)
def test_errors(staleness: StalenessConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(RunConfig(staleness=staleness))


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


@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(0, 1), st.integers(2, 40), st.integers(0, 9))
def test_doubling_rules_are_unbiased(
    d: float, d_prev: float, weight: float, num_chunks: int, lookahead: int
) -> None:
    """The mean over all ordered pairs of chunks is d; without lookahead half of them are fresh."""
    p = fresh_probability(num_chunks, lookahead)
    pairs = [(i, j) for i in range(num_chunks) for j in range(num_chunks) if i != j]
    assert p == pytest.approx(sum(j <= i + lookahead for i, j in pairs) / len(pairs))
    for gradient in ("fresh", "corrected"):
        rule = gradient_rule(gradient, weight, p)  # type: ignore[arg-type]
        fresh = rule.fresh * d - rule.corrected * d_prev
        assert p * fresh + (1 - p) * rule.historical * d_prev == pytest.approx(d, abs=1e-9)


def test_freeze_schedule() -> None:
    freeze = StalenessSettings(freeze="1,3@4").snapshots
    assert freeze == ((0, 1), (4, 3))
    assert [epoch for epoch in range(12) if snapshot_due(freeze, epoch)] == [1, 2, 3, 4, 7, 10]
    assert [epoch for epoch in range(9) if snapshot_due(StalenessSettings(freeze=3).snapshots, epoch)] == [
        1,
        4,
        7,
    ]


def mean_weight_of_pairs(config: Resolved, chunks: int, lookahead: int, epochs: int) -> list[float]:
    """How much the gradient between each ordered pair of chunks counts on average, while nothing changes
    (d = d_prev = 1), found by walking through epochs of the rules."""
    staleness = config.staleness
    assert isinstance(staleness.weight, float)
    rule = gradient_rule(staleness.gradient, staleness.weight, fresh_probability(chunks, lookahead))
    total = [[0.0] * chunks for _ in range(chunks)]
    for order in islice(chunk_orders(staleness.order, chunks, 0), epochs):
        for reader, place in enumerate(order):
            for other in range(chunks):
                fresh = order.index(other) <= reader + lookahead
                total[place][other] += rule.fresh - rule.corrected if fresh else rule.historical
    return [total[i][j] / epochs for i in range(chunks) for j in range(chunks) if i != j]


@pytest.mark.parametrize("order", ["shuffled", "antithetic", "fixed"])
@pytest.mark.parametrize(("gradient", "weight"), [("fresh", 0.7), ("corrected", 0.7), ("reuse", 1.0)])
@pytest.mark.parametrize("lookahead", [0, 1, 3])
def test_what_is_wrong_on_average_is_refused_and_the_rest_is_not(
    order: str, gradient: str, weight: float, lookahead: int
) -> None:
    staleness = StalenessConfig(order=order, gradient=gradient, weight=weight, lookahead=lookahead)  # type: ignore[arg-type]
    config = resolve(RunConfig(chunks=4, staleness=staleness))
    weights = mean_weight_of_pairs(config, 4, lookahead, 4000)
    if all(found == pytest.approx(1.0, abs=0.1) for found in weights):
        check_config(config)
    else:
        with pytest.raises(ConfigError, match=r"staleness\.gradient: .* contradicts --staleness\.order"):
            check_config(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"chunks": 1},
        {},  # one stage: one chunk
        {"chunks": 8, "staleness": {"lookahead": "exact"}},
        {"chunks": 8, "staleness": {"lookahead": 7}},
        {"stages": 2, "staleness": {"preset": "exact"}},
    ],
)
def test_where_nothing_is_stale_any_rule_will_do(changes: dict) -> None:
    staleness = StalenessConfig(**({"order": "fixed", "gradient": "fresh"} | changes.get("staleness", {})))
    check_config(RunConfig(**(changes | {"staleness": staleness})))


def test_stages_whose_chunks_are_not_known_yet_may_be_stale() -> None:
    staleness = StalenessConfig(order="fixed", gradient="corrected")
    for config in (RunConfig(stages=2, staleness=staleness), RunConfig(plan="auto", staleness=staleness)):
        with pytest.raises(ConfigError, match=r"corrected contradicts --staleness\.order fixed"):
            check_config(config)


def test_reuse_in_the_papers_preset_reuses_something() -> None:
    resolved = resolve(RunConfig(staleness=StalenessConfig("paper", gradient="reuse")))
    assert resolved.staleness.weight == 0.7
