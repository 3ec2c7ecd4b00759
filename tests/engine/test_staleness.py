"""Every staleness setting against the slow reference with explicit rows for each pair of chunks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.comm.groups import Links
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import Gradient, History, Model, Order
from tests.engine.test_exact import MODELS, assert_same_training
from tests.graphs import random_graph
from tests.harness import Case, make_engine, make_stage, train
from tests.reference import exact_epochs, stale_epochs


def setting(
    order: Order = "shuffled",
    freeze: int | str = 1,
    gradient: Gradient = "corrected",
    weight: float | str = 0.7,
    history: History = "dropped",
    hold: int = 2,
    refresh: int = 0,
) -> StalenessSettings:
    return StalenessSettings("default", order, freeze, gradient, weight, history, hold, refresh, 0)


def check(case: Case) -> None:
    assert_same_training(train(case), stale_epochs(case, case.graph()))


@pytest.mark.parametrize("gradient", ["fresh", "reuse", "corrected"])
@pytest.mark.parametrize("model", MODELS)
def test_gradient(model: Model, gradient: Gradient) -> None:
    check(Case(random_graph(40, 200), model, chunks=5, staleness=setting(gradient=gradient), epochs=4))


@pytest.mark.parametrize("history", ["dropped", "clean"])
@pytest.mark.parametrize("freeze", [1, 2, 3, "2,1@3", "1,3@2"])
def test_freeze_and_history(freeze: int | str, history: History) -> None:
    check(
        Case(
            random_graph(40, 200),
            "gcnii",
            chunks=4,
            staleness=setting(freeze=freeze, history=history),
            epochs=7,
        )
    )


@pytest.mark.parametrize("order", ["shuffled", "antithetic", "fixed"])
def test_order(order: Order) -> None:
    check(Case(random_graph(40, 200), "gcnii", chunks=4, staleness=setting(order=order), epochs=4))


@pytest.mark.parametrize("gradient", ["reuse", "corrected"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, "fitted"])
def test_weight(weight: float | str, gradient: Gradient) -> None:
    staleness = setting(weight=weight, gradient=gradient)
    check(Case(random_graph(40, 200), "resgcn", chunks=4, staleness=staleness, epochs=4))


def test_fitted_weight_follows_the_masks() -> None:
    """Last epoch's gradients predict today's while the masks are the same, and hardly when they are new."""
    held, drawn = (
        Case(
            random_graph(40, 200), "resgcn", chunks=4, staleness=setting(weight="fitted", hold=hold), epochs=8
        )
        for hold in (9, 1)
    )
    weights = []
    for case in (held, drawn):
        stage = make_stage(case)
        engine, _ = make_engine(case, stage, Links())
        for epoch in range(case.epochs):
            engine.run_epoch(epoch, list(range(case.chunks)))
        stage.begin_epoch(case.epochs, list(range(case.chunks)))
        stage.prepare()
        weights.append([layer.gradients.table.weight for layer in stage.layers if layer.gradients])
    assert min(weights[0]) > 0.99  # the weights don't change here, so neither do the gradients
    assert max(weights[1]) < 0.9


@pytest.mark.parametrize("history", ["dropped", "clean"])
@pytest.mark.parametrize(("refresh", "freeze"), [(1, 1), (2, 1), (3, 2)])
def test_refresh(refresh: int, freeze: int, history: History) -> None:
    staleness = setting(refresh=refresh, freeze=freeze, history=history)
    check(Case(random_graph(40, 200), "gcnii", chunks=4, staleness=staleness, epochs=5))


@pytest.mark.parametrize("gradient", ["fresh", "reuse", "corrected"])
@pytest.mark.parametrize("model", MODELS)
def test_lookahead(model: Model, gradient: Gradient) -> None:
    for lookahead in (1, 2, 4, 9):
        staleness = setting(gradient=gradient)
        check(Case(random_graph(40, 200), model, 3, chunks=5, staleness=staleness, lookahead=lookahead))


def test_lookahead_over_all_chunks_is_exact() -> None:
    """Whatever the settings, nothing is stale."""
    for gradient in ("fresh", "reuse", "corrected"):
        staleness = setting(gradient=gradient, freeze=2)  # type: ignore[arg-type]
        case = Case(random_graph(40, 200), "gcnii", chunks=5, staleness=staleness, lookahead=4)
        assert_same_training(train(case), exact_epochs(case))


@given(
    num_nodes=st.integers(3, 14),
    num_edges=st.integers(0, 50),
    seed=st.integers(0, 10**6),
    model=st.sampled_from(MODELS),
    gradient=st.sampled_from(["fresh", "reuse", "corrected"]),
    history=st.sampled_from(["dropped", "clean"]),
    freeze=st.integers(1, 3),
    lookahead=st.integers(0, 4),
    refresh=st.integers(0, 2),
    weight=st.sampled_from([0.3, 1.0, "fitted"]),
    data=st.data(),
)
@settings(max_examples=60)
def test_any_graph_any_chunks(
    num_nodes: int,
    num_edges: int,
    seed: int,
    model: Model,
    gradient: Gradient,
    history: History,
    freeze: int,
    lookahead: int,
    refresh: int,
    weight: float | str,
    data: st.DataObject,
) -> None:
    """Down to chunks of one node."""
    chunks = data.draw(st.integers(2, num_nodes))
    graph = random_graph(num_nodes, num_edges, seed=seed)
    staleness = setting(gradient=gradient, history=history, freeze=freeze, refresh=refresh, weight=weight)
    case = Case(graph, model, 2, chunks=chunks, staleness=staleness, epochs=3, seed=seed)
    case = case.with_(lookahead=lookahead)
    # few nodes: see `test_any_graph`
    assert_same_training(train(case), stale_epochs(case, case.graph()), slack=10)
