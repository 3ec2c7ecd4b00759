"""What a resumed run says of itself, and which of its epochs its figures are about."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from gnnpipe.config.checks import check_config
from gnnpipe.config.rates import Plateau
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import continued
from gnnpipe.config.run import OptimizerConfig, RunConfig
from gnnpipe.records.folder import config_as_yaml
from gnnpipe.records.plan_file import Resumption, Shape
from tests.made import plan, stored_plan

A, B, C = (2, 1, 4), (1, 2, 4), (1, 1, 1)
COSINE = check_config(
    RunConfig(epochs=10, lr=0.1, chunks=4, stages=2, optimizer=OptimizerConfig(schedule="cosine", warmup=2))
)


def said(done: int, before: Resolved = COSINE, **changes: Any) -> list[str]:
    config = replace(before, **changes)
    return continued(config, config_as_yaml(before), done)


def cosine(epoch: int, epochs: int) -> float:
    return 0.1 * 0.5 * (1 + math.cos(math.pi * (epoch - 2) / (epochs - 2)))


def test_more_epochs_under_a_cosine_say_how_far_the_rate_jumps() -> None:
    (line,) = said(10, epochs=20)
    assert line.startswith(
        f"learning rate: {cosine(9, 10):.3g} in epoch 10, {cosine(10, 20):.3g} from epoch 11 on, by "
        "epochs 20 (was 10); "
    )
    assert f"--lr {cosine(9, 10):.3g} --optimizer.schedule constant --optimizer.warmup 0" in line


def test_a_longer_warm_up_says_how_far_the_rate_falls() -> None:
    optimizer = replace(COSINE.optimizer, schedule="constant")
    before = replace(COSINE, optimizer=optimizer)
    (line,) = said(4, before, optimizer=replace(optimizer, warmup=9))
    assert "learning rate: 0.1 in epoch 4, 0.05 from epoch 5 on, by optimizer.warmup 9 (was 2)" in line


def test_a_rate_that_goes_on_as_planned_says_nothing() -> None:
    assert said(4) == []
    constant = replace(COSINE, optimizer=replace(COSINE.optimizer, schedule="constant"))
    assert said(10, constant, epochs=20) == []


def test_a_rate_that_fell_on_a_plateau_goes_on_as_it_is() -> None:
    settings = replace(COSINE.optimizer, schedule="plateau", plateau_patience=1, plateau_factor=0.5, warmup=0)
    before, scores = replace(COSINE, optimizer=settings), [(1, 0.5), (3, 0.4), (5, 0.5), (7, 0.3)]
    plateau = Plateau(lower_is_better=False)
    assert continued(before, config_as_yaml(before), 8, scores, plateau) == []
    slower = replace(before, optimizer=replace(settings, plateau_patience=3))
    (line,) = continued(slower, config_as_yaml(before), 8, scores, plateau)
    assert line.startswith(
        "learning rate: 0.025 in epoch 8, 0.05 from epoch 9 on, by optimizer.plateau_patience 3 (was 1); "
    )


@pytest.mark.parametrize(("old", "new", "word"), [(0.0, 0.9, "begin at"), (0.9, 0.0, "are dropped")])
def test_averaging_switched_on_or_off_says_what_becomes_of_the_averages(
    old: float, new: float, word: str
) -> None:
    before = replace(COSINE, optimizer=replace(COSINE.optimizer, averaging=old))
    (line,) = said(4, before, optimizer=replace(COSINE.optimizer, averaging=new))
    assert line.startswith("optimizer.averaging: ")
    assert word in line


def test_another_kind_of_history_says_what_is_read_first() -> None:
    staleness = replace(COSINE.staleness, history="clean")
    (line,) = said(4, staleness=staleness)
    assert line.startswith("staleness.history: an exact sweep makes clean rows")


@pytest.mark.parametrize(
    ("resumed", "shape", "since"),
    [
        ([], A, 0),
        ([(6, A)], A, 0),
        ([(6, A)], B, 6),
        ([(4, A), (6, B)], A, 6),
        ([(4, A), (6, B)], B, 4),
        ([(0, A)], B, 0),
        ([(10, A)], B, 0),  # B ran nothing
        ([(4, A), (4, B)], C, 4),
        ([(4, A), (4, B)], A, 0),  # B was given up at once
        ([(6, A), (2, B)], C, 2),  # newer checkpoints were damaged
    ],
)
def test_figures_are_of_the_last_plan_that_ran_an_epoch(
    resumed: list[tuple[int, Shape]], shape: Shape, since: int
) -> None:
    found = stored_plan(plan(*shape), resumed=tuple(Resumption(*item) for item in resumed))
    assert found.since(10) == since
