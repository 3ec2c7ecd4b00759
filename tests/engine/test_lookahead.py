"""Exact lookahead: pipelining with no stale row (invariant 1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.graph.cut.locality import Locality
from gnnpipe.graph.cut.partition import node_cost
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import PreparedGraph
from tests.engine.test_exact import MODELS, assert_same_training
from tests.engine.test_parts import assert_bytes_as_predicted, assert_same_logits, merged, slow
from tests.graphs import banded_graph, grid_graph, road_graph
from tests.harness import Case, Outcome, run_ranks, train
from tests.reference import exact_epochs


def local_case(data: Graph, chunks: int, parts: int = 1, **changes: object) -> tuple[Case, PreparedGraph]:
    """Chunks in a line, and a lookahead as wide as the graph."""
    width = Locality(data.adjacency, node_cost(data.adjacency, 4.0)).cut(chunks, parts).width
    case = Case(data, chunks=chunks, parts=parts, lookahead=width, exact=True).with_(**changes)
    return case, case.graph()


GRAPHS = {"grid": grid_graph(20, 6), "road": road_graph(120), "banded": banded_graph(100, 4)}


@pytest.mark.parametrize("name", GRAPHS)
def test_fifty_epochs_equal_the_reference(name: str) -> None:
    case, graph = local_case(GRAPHS[name], 8, epochs=50)
    assert case.lookahead < 7, "the graph is local, or this tests one chunk"
    ours, reference = train(case, graph=graph), exact_epochs(case)
    torch.testing.assert_close(torch.tensor(ours.losses), torch.tensor(reference.losses))


@pytest.mark.parametrize("model", MODELS)
def test_every_gradient_equals_the_reference(model: str) -> None:
    for data in GRAPHS.values():
        case, graph = local_case(data, 8, model=model)
        assert_same_training(train(case, graph=graph), exact_epochs(case))


def train_stages(rank: int, num_ranks: int) -> list[Outcome]:
    outcomes = []
    for data in GRAPHS.values():
        case, graph = local_case(data, 9, layers=5)
        outcomes.append(train(case, num_ranks, rank, graph=graph))
    return outcomes


def test_stages_equal_one_process(tmp_path: Path) -> None:
    by_rank = run_ranks(3, train_stages, folder=tmp_path)
    for index, data in enumerate(GRAPHS.values()):
        case, graph = local_case(data, 9, layers=5)
        whole = train(case, graph=graph)
        losses = [sum(found) for found in zip(*(part[index].losses for part in by_rank), strict=True)]
        assert losses == whole.losses


def strip_cases(parts: int) -> list[Case]:
    return [
        local_case(data, 5, parts, model=model, layers=3)[0] for data in GRAPHS.values() for model in MODELS
    ]


def train_strips(rank: int, num_ranks: int, parts: int) -> list[Outcome]:
    return [train(case, num_ranks // parts, rank) for case in strip_cases(parts)]


@pytest.mark.parametrize(("stages", "parts"), [(1, 2), slow((2, 2)), slow((2, 3))])
def test_parts_are_strips_of_the_line(stages: int, parts: int, tmp_path: Path) -> None:
    """Losses, every gradient and inference are those of plain autograd; bytes are those of the formula."""
    by_rank = run_ranks(stages * parts, train_strips, parts, folder=tmp_path)
    for index, case in enumerate(strip_cases(parts)):
        assert case.lookahead < case.chunks - 1, "the graph is local, or this tests one chunk"
        outcomes, reference = [found[index] for found in by_rank], exact_epochs(case)
        ours = merged(outcomes, parts)
        assert_same_training(ours, reference)
        assert_same_logits(ours, reference)
        assert_bytes_as_predicted(case, stages, outcomes)


@given(
    rows=st.integers(5, 30),
    columns=st.integers(1, 3),
    chunks=st.integers(1, 6),
    parts=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_folding_makes_a_line_no_wider(rows: int, columns: int, chunks: int, parts: int, seed: int) -> None:
    data = grid_graph(rows, columns, seed=seed)
    locality = Locality(data.adjacency, np.ones(data.num_nodes))
    folded = locality.cut(chunks, parts)
    # the same strips in a row
    line = folded.part * chunks + np.where(folded.part % 2, chunks - 1 - folded.chunk, folded.chunk)
    ends = data.adjacency.to_scipy().nonzero()
    assert folded.width <= max(np.abs(line[ends[0]] - line[ends[1]]), default=0)
    assert folded.part.max() < parts
    assert folded.chunk.max() < chunks
    if chunks * parts <= data.num_nodes:
        places = folded.part * chunks + folded.chunk
        assert len(np.unique(places)) == chunks * parts, "no range is empty"


def test_strips_exchange_rows_at_the_folds_only() -> None:
    _, graph = local_case(grid_graph(60, 3), 5, 3)
    reader, owner = np.nonzero(graph.chunk_edges[1].numpy())
    assert graph.width == 1
    assert {*reader, *owner} == {0, 4}


def test_too_little_lookahead_is_not_exact() -> None:
    """What the tests above would say if the width were wrong."""
    case, graph = local_case(GRAPHS["grid"], 8, epochs=2)
    short = case.with_(lookahead=case.lookahead - 1)
    assert short.lookahead >= 0
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(train(short, graph=graph), exact_epochs(case))


@given(
    rows=st.integers(2, 12),
    columns=st.integers(1, 4),
    chunks=st.integers(2, 12),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=25)
def test_any_grid_any_chunks(rows: int, columns: int, chunks: int, seed: int) -> None:
    data = grid_graph(rows, max(columns, -(-5 // rows)), seed=seed)
    case, graph = local_case(data, min(chunks, data.num_nodes), layers=2, seed=seed)
    assert_same_training(train(case, graph=graph), exact_epochs(case))
