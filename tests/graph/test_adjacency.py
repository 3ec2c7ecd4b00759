"""Adjacencies of edges with and without weights, against loops over edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.errors import DataError
from gnnpipe.graph.adjacency import Adjacency, adjacency_of
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from tests.graphs import one_node_each

Edge = tuple[int, int, float]
"""Source, target, weight."""
weights = st.floats(-4, 4, width=32)
graphs = st.integers(1, 7).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1), weights), max_size=24),
    )
)


def made(size: int, edges: list[Edge], *, undirected: bool = False) -> Adjacency:
    index = np.array([edge[:2] for edge in edges], dtype=np.int64).reshape(-1, 2).T
    return adjacency_of(index, size, np.array([edge[2] for edge in edges]), undirected=undirected)


def entries(matrix: Csr) -> list[Edge]:
    """All entries as edges, in the order in which they are stored."""
    rows = np.repeat(np.arange(matrix.num_rows), np.diff(matrix.rowptr.numpy()))
    triples = zip(matrix.col.tolist(), rows.tolist(), matrix.value.tolist(), strict=True)
    return [(int(source), int(target), value) for source, target, value in triples]


@given(graphs)
def test_weighted_edges_are_entries_of_their_own_in_the_order_given(graph: tuple[int, list[Edge]]) -> None:
    size, edges = graph
    found = made(size, edges)
    assert found.weighted == any(weight != 1 for *_, weight in edges)
    if found.weighted:  # Python's sort keeps the order of equal keys
        assert entries(found.matrix) == sorted(edges, key=lambda edge: (edge[1], edge[0]))


@given(graphs)
def test_reverses_are_added_where_there_is_none(graph: tuple[int, list[Edge]]) -> None:
    size, edges = graph
    found = made(size, edges, undirected=True)
    pairs = {edge[:2] for edge in edges}
    if found.weighted:
        reverses = [(v, u, w) for u, v, w in edges if u != v and (v, u) not in pairs]
        assert sorted(entries(found.matrix)) == sorted(edges + reverses)
    else:
        assert set(entries(found.matrix)) == {(*pair, 1.0) for u, v in pairs for pair in ((u, v), (v, u))}
    again = found.with_reverse()
    assert entries(again.matrix) == entries(found.matrix)


def test_edges_there_both_ways_are_said() -> None:
    found = made(3, [(0, 1, 2.0), (1, 0, 2.0), (1, 2, 3.0), (2, 2, 5.0)], undirected=True)
    assert found.notes == (
        "edges: weights from 2 to 5 are used",
        "undirected: 2 edges are there both ways already and stay as they are",
    )
    assert entries(found.matrix) == [(1, 0, 2.0), (0, 1, 2.0), (2, 1, 3.0), (1, 2, 3.0), (2, 2, 5.0)]


def test_an_edge_of_weight_zero_stays() -> None:
    assert entries(made(2, [(0, 1, 0.0), (0, 1, 2.0)]).matrix) == [(0, 1, 0.0), (0, 1, 2.0)]


def test_parallel_weights_are_said() -> None:
    found = made(2, [(0, 1, 0.5), (0, 1, 2.0), (1, 1, 3.0)])
    assert found.notes == (
        "edges: weights from 0.5 to 3 are used",
        "edges: 1 of 3 repeat others; each counts with its own weight",
    )


def test_weights_that_are_all_one_are_none() -> None:
    found = made(2, [(0, 1, 1.0), (0, 1, 1.0)])
    assert not found.weighted
    assert entries(found.matrix) == [(0, 1, 2.0)]


def test_an_adjacency_that_is_ready_is_taken_as_it_is() -> None:
    """Its values may be one 1 for all entries."""
    rowptr, col = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0])
    ready = Csr(rowptr, col, torch.ones(1).expand(2), 3)
    both = Adjacency(ready, weighted=False).with_reverse()
    assert entries(both.matrix) == [(1, 0, 1.0), (0, 1, 1.0)]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(4), r"weight: expected shape \[3\], one number for each edge, got \[4\]"),
        (torch.ones(3, 2), r"weight: expected shape \[3\], one number for each edge, got \[3, 2\]"),
        (torch.tensor([1, 2, float("nan")]), "weight: nan of edge 2 is not finite"),
        (np.array([1, 1e39, 2]), r"weight: 1e\+39 of edge 1 is not finite as float32 \(1 such"),
        (np.array(["a", "b", "c"]), "weight: it holds values of type <U1; real numbers are needed"),
        ("w", "weight: it holds values of type str; real numbers are needed"),
        ([1, [2], 3], "weight: its rows are not of equal length; give an array of numbers"),
    ],
)
def test_weights_that_can_not_be_used(weight: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        adjacency_of(torch.zeros(2, 3, dtype=torch.int64), 2, weight)


def test_rounded_weights_are_said() -> None:
    index = torch.tensor([[0, 1], [1, 0]])
    found = adjacency_of(index, 2, np.array([0.1, 0.5]))
    assert "weight: 50.0% of the entries are rounded from float64 to float32" in found.notes
    assert adjacency_of(index, 2, torch.tensor([[0.5], [2.0]])).matrix.value.tolist() == [2.0, 0.5]


def test_negative_weights_are_a_graphs_and_negative_counts_are_not() -> None:
    arguments = (torch.ones(3, 2), torch.tensor([0, 1, 0]), one_node_each(3))
    index = torch.tensor([[0, 1], [1, 2]])
    data = Graph.from_edge_index(index, *arguments, weight=torch.tensor([-1.0, 0.5]))
    assert data.weighted
    with pytest.raises(DataError, match="adjacency: an entry is negative, but entries count edges unless"):
        Graph("x", data.adjacency, *arguments[:2], 2, *arguments[2])


def test_an_edge_list_that_stands_upright() -> None:
    with pytest.raises(DataError, match=r"edge_index: expected shape \[2, num_edges\], got \[5, 2\]; transp"):
        adjacency_of(torch.zeros(5, 2, dtype=torch.int64), 2)
