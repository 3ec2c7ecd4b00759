"""Every staleness setting against the slow reference with explicit rows for each pair of chunks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.base.config import Gradient, History, Model, Order, StalenessConfig
from tests.graphs import random_graph
from tests.harness import Case, train
from tests.reference import stale_epochs
from tests.runtime.test_exact import MODELS, assert_same_training


def setting(
    order: Order = "shuffled",
    freeze: int = 1,
    gradient: Gradient = "corrected",
    weight: float = 0.7,
    history: History = "dropped",
    hold: int = 2,
) -> StalenessConfig:
    return StalenessConfig("default", order, freeze, gradient, weight, history, hold)


def check(case: Case) -> None:
    assert_same_training(train(case), stale_epochs(case, case.graph()))


@pytest.mark.parametrize("gradient", ["fresh", "reuse", "corrected"])
@pytest.mark.parametrize("model", MODELS)
def test_gradient(model: Model, gradient: Gradient) -> None:
    check(Case(random_graph(40, 200), model, chunks=5, staleness=setting(gradient=gradient), epochs=4))


@pytest.mark.parametrize("history", ["dropped", "clean"])
@pytest.mark.parametrize("freeze", [1, 2, 3])
def test_freeze_and_history(freeze: int, history: History) -> None:
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


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_weight(weight: float) -> None:
    check(Case(random_graph(40, 200), "resgcn", chunks=4, staleness=setting(weight=weight), epochs=4))


@given(
    num_nodes=st.integers(3, 14),
    num_edges=st.integers(0, 50),
    seed=st.integers(0, 10**6),
    model=st.sampled_from(MODELS),
    gradient=st.sampled_from(["fresh", "reuse", "corrected"]),
    history=st.sampled_from(["dropped", "clean"]),
    freeze=st.integers(1, 3),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_graph_any_chunks(
    num_nodes: int,
    num_edges: int,
    seed: int,
    model: Model,
    gradient: Gradient,
    history: History,
    freeze: int,
    data: st.DataObject,
) -> None:
    """Down to chunks of one node."""
    chunks = data.draw(st.integers(2, num_nodes))
    graph = random_graph(num_nodes, num_edges, seed=seed)
    staleness = setting(gradient=gradient, history=history, freeze=freeze)
    check(Case(graph, model, 2, chunks=chunks, staleness=staleness, epochs=3, seed=seed))
