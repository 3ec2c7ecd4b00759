"""The gradient estimate beside the exact gradient."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gnnpipe.comm.groups import Links, make_links
from gnnpipe.config.presets import PRESETS
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import SyntheticConfig
from gnnpipe.engine.chunks import TileSizes
from gnnpipe.engine.gradient_check import CheckResult, GradientCheck
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import refresh
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.schedule.estimate import estimates
from gnnpipe.schedule.staleness import chunk_orders
from tests.engine.test_lookahead import GRAPHS, local_case
from tests.graphs import random_graph
from tests.harness import CPU, Case, descend, make_engine, make_stage, run_ranks
from tests.reference import exact_epochs


def checked(
    case: Case,
    *,
    descends: bool = True,
    stages: int = 1,
    rank: int = 0,
    links: Links | None = None,
    exact: bool = False,
) -> CheckResult:
    """The last epoch's check of a short training."""
    links = links or Links()
    case, graph = local_case(case.data, case.chunks) if exact else (case, case.graph())
    stage = make_stage(case, stages, rank, graph, links)
    engine, messages = make_engine(case, stage, links)
    hold = case.staleness.dropout_hold
    assert hold is not None
    dropout = DropoutSettings(case.dropout, case.seed, hold)
    check = GradientCheck(stage, case.plan(stages), case.spec, graph, dropout, messages, links)
    assert case.staleness.order is not None
    orders = chunk_orders("fixed" if exact else case.staleness.order, case.chunks, case.seed)
    for epoch in range(case.epochs):
        if case.staleness.refresh and epoch % case.staleness.refresh == 0:
            refresh(stage, messages, epoch)
        engine.run_epoch(epoch, next(orders))
        result = check.measure(epoch)
        if descends:
            descend(stage)
        else:
            forget(stage)
    return result


def forget(stage: Stage) -> None:
    for weight in stage.modules.parameters():
        weight.grad = None


def test_exact_lookahead_has_no_error() -> None:
    for data in GRAPHS.values():
        result = checked(Case(data, chunks=8, epochs=2), exact=True)
        found = estimates(result.layers)
        assert found["all"].cosine == pytest.approx(1)
        # rounding of float32 sums in another order
        assert max(item.relative_error for item in found.values()) < 1e-5
        assert max(item.table_error or 0 for item in found.values()) < 1e-5


def test_loss_is_that_of_exact_training() -> None:
    case = Case(random_graph(40, 200), chunks=4, epochs=1)
    stage = make_stage(case.with_(chunks=1))
    engine, _ = make_engine(case.with_(chunks=1), stage, Links())
    expected = engine.run_epoch(0, [0]).result.loss_sum
    assert checked(case).loss_sum == pytest.approx(expected, rel=1e-6)


def small() -> Case:
    """Half of the edges cross chunks; masks are held so that nothing but weights changes."""
    graph = planted_partition(SyntheticConfig(num_nodes=600, num_features=16, blocks_per_class=2))
    return Case(graph, "gcnii", 8, chunks=6, epochs=30, tiles=TileSizes(1, 200))


@pytest.mark.parametrize(
    ("gradient", "weight", "vanishes"),
    [("reuse", 1.0, True), ("corrected", 1.0, True), ("reuse", 0.7, False), ("fresh", 0.0, False)],
)
def test_error_when_nothing_changes(gradient: str, weight: float, vanishes: bool) -> None:
    """With weights and masks that stand still, last epoch's gradients become today's, hop by hop, so that
    whole weights leave no error; damping and doubling keep theirs."""
    staleness = StalenessSettings("default", "shuffled", 1, gradient, weight, "dropped", 99, 0, 0)  # type: ignore[arg-type]
    found = estimates(checked(small().with_(staleness=staleness), descends=False).layers)["all"]
    assert (found.relative_error < 1e-3) == vanishes
    assert found.table_error is not None
    assert found.table_error < 1e-5  # forward is the same whatever the gradient


@pytest.mark.parametrize(
    ("changes", "lookahead", "error"),
    [
        ({}, 0, 0.195),
        ({"gradient": "fresh"}, 0, 0.26),
        ({"weight": 0.0}, 0, 0.304),
        ({"weight": 1.0}, 0, 0.173),
        ({"weight": "fitted"}, 0, 0.244),
        ({"dropout_hold": 5}, 0, 0.126),
        ({"gradient": "corrected"}, 0, 0.177),
        ({"gradient": "corrected", "weight": 1.0}, 0, 0.184),
        ({"gradient": "corrected", "dropout_hold": 5}, 0, 0.088),
        ({"order": "antithetic"}, 0, 0.184),
        ({"order": "fixed"}, 0, 0.174),
        ({"freeze": 23}, 0, 0.233),
        ({"freeze": "1,23@20"}, 0, 0.25),
        ({"history": "clean"}, 0, 0.158),
        ({"refresh": 1}, 0, 0.275),
        ({"gradient": "fresh", "freeze": 23}, 0, 0.281),
        ({}, 2, 0.112),
    ],
)
def test_each_setting_has_its_figure(changes: dict[str, Any], lookahead: int, error: float) -> None:
    """Relative error after 30 epochs of plain descent, as measured when the setting was written. The
    tolerance leaves room for other roundings of another machine, which training amplifies."""
    case = small().with_(staleness=replace(PRESETS["default"].staleness, **changes), lookahead=lookahead)
    found = estimates(checked(case).layers)["all"]
    assert found.relative_error == pytest.approx(error, abs=0.012)


def parted(num_parts: int) -> Case:
    return Case(random_graph(60, 240), "resgcn", 4, chunks=3, parts=num_parts, epochs=1)


def check_ranks(rank: int, num_ranks: int, num_parts: int) -> CheckResult:
    stages = num_ranks // num_parts
    links = make_links(CPU, stages, num_parts, timedelta(seconds=60))
    return checked(parted(num_parts), stages=stages, rank=rank, links=links)


@pytest.mark.parametrize("parts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sums_over_stages_and_parts(parts: int, tmp_path: Path) -> None:
    """The exact gradient that all ranks find together is plain autograd's, each layer's counted once."""
    found = run_ranks(2 * parts, check_ranks, parts, folder=tmp_path)
    exact = exact_epochs(parted(1))
    assert sum(result.loss_sum for result in found) / int(parted(1).data.train_mask.sum()) == pytest.approx(
        exact.losses[0], rel=1e-6
    )
    squares: dict[str, float] = {}
    for name, gradient in exact.gradients[0].items():
        layer = name.rpartition(".")[0] if "norm" not in name else name.split(".norm")[0]
        squares[layer] = squares.get(layer, 0.0) + float(gradient.double().square().sum())
    ours = dict.fromkeys(squares, 0.0)
    for item in (item for result in found for item in result.layers):
        ours[item.name] += item.exact
    # squares of sums of float32 in another order
    assert ours == pytest.approx(squares, rel=1e-4)
