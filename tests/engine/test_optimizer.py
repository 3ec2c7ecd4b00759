"""Schedules, clipping and averaged weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim import Adam, AdamW

from gnnpipe.config.checks import check_config
from gnnpipe.config.rates import Plateau, Rates
from gnnpipe.config.resolved import OptimizerSettings
from gnnpipe.config.run import GcniiConfig, OptimizerConfig, RunConfig
from gnnpipe.engine.optimizer import AveragedWeights, clip_gradients, make_optimizer
from gnnpipe.errors import ConfigError
from gnnpipe.nn.models import ModelSpec, build_stack
from tests.graphs import random_graph
from tests.harness import Case, make_stage


def rates(config: OptimizerSettings, epochs: int) -> list[float]:
    schedule = Rates(config, 1.0, epochs, Plateau(lower_is_better=False))
    return [schedule.of(epoch) for epoch in range(epochs)]


def test_constant_with_warmup() -> None:
    assert rates(OptimizerSettings(schedule="constant", warmup=3), 6) == pytest.approx(
        [0.25, 0.5, 0.75, 1, 1, 1]
    )


def test_cosine() -> None:
    expected = [0.5, *[0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]]
    assert rates(OptimizerSettings(schedule="cosine", warmup=1), 5) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW)])
def test_kind(name: str, kind: type) -> None:
    config = OptimizerSettings(name, betas=(0.1, 0.2))  # type: ignore[arg-type]
    optimizer = make_optimizer(nn.Linear(2, 2), config, 0.5, 0.25)
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.5, 0.25, (0.1, 0.2))


def test_frozen_weights_stay() -> None:
    module = nn.Linear(2, 2)
    module.weight.requires_grad_(False)
    before = module.weight.clone()
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    make_optimizer(module, OptimizerSettings("adam"), 0.5, 0.25).step()
    assert torch.equal(module.weight, before)
    assert make_optimizer(nn.ReLU(), OptimizerSettings("adam"), 0.5, 0.25).step() is None


def test_clipping_counts_all_stages() -> None:
    module = nn.Linear(2, 1, bias=False)
    module.weight.grad = torch.tensor([[3.0, 0.0]])
    norm = clip_gradients(module, 1.0, lambda mine: [mine, [16.0]])
    assert norm == 5.0
    torch.testing.assert_close(module.weight.grad, torch.tensor([[0.6, 0.0]]))


def test_short_gradients_stay() -> None:
    module = nn.Linear(2, 1, bias=False)
    module.weight.grad = torch.tensor([[3.0, 4.0]])
    assert clip_gradients(module, 6.0, lambda mine: [mine]) == 5.0
    assert torch.equal(module.weight.grad, torch.tensor([[3.0, 4.0]]))


def test_averaged_weights_stand_in_and_leave() -> None:
    module = nn.Linear(1, 1, bias=False)
    averaged = AveragedWeights(module, 0.9)
    for value in (1.0, 2.0):
        module.weight.data.fill_(value)
        averaged.update()
    with averaged.in_place():
        assert module.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 2)
    assert module.weight.item() == 2.0


def test_without_averaging_the_weights_are_their_own() -> None:
    module = nn.Linear(1, 1)
    averaged = AveragedWeights(module, 0.0)
    averaged.update()
    before = module.weight.item()
    with averaged.in_place():
        assert module.weight.item() == before


def test_dense_layers_decay_on_their_own() -> None:
    """Against Adam over two groups that this test names by hand."""
    spec = ModelSpec("gcnii", 3, 4, 5, 2, False, 0, GcniiConfig())
    ours, theirs = ({layer.name.replace(".", "_"): layer() for layer in build_stack(spec)} for _ in range(2))
    dense = [*theirs["input"].parameters(), *theirs["output"].parameters()]
    others = [weight for index in range(3) for weight in theirs[f"layers_{index}"].parameters()]
    config = OptimizerSettings(betas=(0.9, 0.99), dense_weight_decay=0.5)
    expected = Adam(
        [{"params": dense, "weight_decay": 0.5}, {"params": others, "weight_decay": 0.1}], 0.01, (0.9, 0.99)
    )
    found = make_optimizer(nn.ModuleDict(ours), config, 0.01, 0.1)
    for optimizer, modules in ((found, ours), (expected, theirs)):
        for weight in nn.ModuleDict(modules).parameters():
            weight.grad = torch.full_like(weight, 1e-3)
        optimizer.step()
    for one, other in zip(nn.ModuleDict(ours).parameters(), nn.ModuleDict(theirs).parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("rank", range(3))
def test_each_stage_gives_its_layers_their_decay(rank: int) -> None:
    """GCNII's paper: 0.01 for the convolutions, 0.0005 for the dense layers, wherever they are. The input
    layer is on every stage where initial rows are computed anew."""
    case = Case(random_graph(20, 3, num_features=5, num_classes=3), initial="recompute")
    modules = make_stage(case, 3, rank).modules
    optimizer = make_optimizer(modules, OptimizerSettings(dense_weight_decay=0.0005), 0.01, 0.01)
    decays = {
        id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]
    }
    found = {name: decays[id(weight)] for name, weight in modules.named_parameters()}
    assert set(found.values()) == {0.01, 0.0005}
    for name, decay in found.items():
        assert decay == (0.01 if name.startswith("layers") else 0.0005), name


def test_models_without_dense_layers_refuse_their_decay() -> None:
    config = RunConfig(model="gcn", optimizer=OptimizerConfig(dense_weight_decay=0.1))
    with pytest.raises(ConfigError, match=r"dense_weight_decay: 0\.1 says nothing about gcn, which has no"):
        check_config(config)
