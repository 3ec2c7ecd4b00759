"""Learning rates that fall when a score does not improve, against PyTorch's class."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gnnpipe.config.checks import check_config
from gnnpipe.config.rates import Plateau, Rates
from gnnpipe.config.resolved import OptimizerSettings
from gnnpipe.config.run import OptimizerConfig, RunConfig
from gnnpipe.errors import ConfigError


@given(
    scores=st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75]), min_size=1, max_size=40),
    patience=st.integers(0, 5),
    every=st.integers(1, 4),
    lower=st.booleans(),
)
def test_as_torch_reduces_it(scores: list[float], patience: int, every: int, *, lower: bool) -> None:
    """PyTorch counts evaluations, and we count epochs."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = ReduceLROnPlateau(
        optimizer, "min" if lower else "max", factor=0.25, patience=patience, threshold=0.0,
        threshold_mode="abs", eps=0.0,
    )  # fmt: skip
    settings = OptimizerSettings(schedule="plateau", plateau_factor=0.25, plateau_patience=patience * every)
    ours = Rates(settings, 0.5, 1000, Plateau(lower))
    for number, score in enumerate(scores, start=1):
        theirs.step(score)
        ours.add(number * every - 1, score)
        assert ours.of(number * every) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


def test_a_warm_up_comes_before_the_steps_down() -> None:
    settings = OptimizerSettings(schedule="plateau", plateau_factor=0.5, plateau_patience=1, warmup=3)
    rates, found = Rates(settings, 1.0, 6, Plateau(lower_is_better=False)), []
    for epoch, score in enumerate([0.5, 0.5, 0.5, 0.6, 0.5, 0.5]):
        found.append(rates.of(epoch))
        rates.add(epoch, score)
    assert found == [0.25, 0.5, 0.75, 0.5, 0.5, 0.5]
    assert rates.of(6) == 0.25


def test_other_schedules_take_no_notice_of_scores() -> None:
    for schedule in ("constant", "cosine"):
        settings = OptimizerSettings(schedule=schedule, plateau_patience=0)  # type: ignore[arg-type]
        told, alone = (Rates(settings, 1.0, 9, Plateau(lower_is_better=False)) for _ in range(2))
        for epoch in range(9):
            assert told.of(epoch) == alone.of(epoch)
            told.add(epoch, 0.5)


@pytest.mark.parametrize(("key", "value"), [("plateau_factor", 2.0), ("plateau_patience", -1)])
def test_numbers_out_of_range_are_named(key: str, value: float) -> None:
    config = RunConfig(optimizer=OptimizerConfig(**{key: value}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"optimizer\.{key}: {value} is out of range"):
        check_config(config)
