"""Features and types of edges follow their edge, whatever the numbering, the cut and the direction."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.utils import add_remaining_self_loops

from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.normalize import Normalization, num_normalized_entries
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare, prepare_file
from gnnpipe.graph.prepare.stored import check_prepared
from tests.graph.prepare.test_prepared import assert_same
from tests.graphs import random_graph, small_blocks

NUM_NODES = 7
Edge = tuple[int, int, float, tuple[float, ...] | None, int | None]
"""Source, target, weight, features, type."""


def graph_of(
    edges: list[Edge], *, weighted: bool = False, num_nodes: int = NUM_NODES, **choices: bool
) -> Graph:
    """A graph of these edges, in the order given."""
    nodes = random_graph(num_nodes, 0)
    columns = [list(column) for column in zip(*edges, strict=True)] or [[], [], [], [], []]
    ends = np.array(columns[:2], dtype=np.int64).reshape(2, -1)
    return Graph.from_edge_index(
        ends,
        nodes.features,
        nodes.labels,
        (nodes.train_mask, nodes.val_mask, nodes.test_mask),
        weight=np.array(columns[2]) if weighted else None,
        edge_attr=np.array(columns[3], dtype=np.float32).reshape(len(edges), -1) if columns[3] else None,
        edge_type=np.array(columns[4], dtype=np.int64) if columns[4] else None,
        num_classes=3,
        **choices,
    )


def entries(matrix: Csr, node: torch.Tensor, attr: torch.Tensor, types: torch.Tensor) -> list[Edge]:
    """The entries of a matrix as edges between nodes by their first number, one by one."""
    found: list[Edge] = []
    for row in range(matrix.num_rows):
        for at in range(int(matrix.rowptr[row]), int(matrix.rowptr[row + 1])):
            ends = int(node[int(matrix.col[at])]), int(node[row])
            found.append((*ends, float(matrix.value[at]), tuple(attr[at].tolist()), int(types[at])))
    return found


def with_loops(edges: list[Edge], *, one: bool) -> list[Edge]:
    """The edges with a self loop for each node: where there is none, or in place of all that are there."""
    whole = [edge for edge in edges if edge[0] != edge[1] or not one]
    for node in range(NUM_NODES):
        loops = [edge for edge in edges if edge[0] == edge[1] == node]
        into = [edge[3] for edge in edges if edge[1] == node and edge[0] != node and edge[3]]
        mean = tuple(np.float32(sum(row[c] for row in into) / max(len(into), 1)) for c in range(2))
        if one and loops:
            whole.append(loops[-1])
        elif not loops:
            whole.append((node, node, 1.0, mean, max(edge[4] or 0 for edge in edges) + 1))
    return whole


def expected(edges: list[Edge], kind: Normalization) -> list[Edge]:
    """The entries of the normalised adjacency, by loops over edges."""
    if kind in ("loops", "gcn"):
        edges = with_loops(edges, one=kind == "gcn")
    if kind in ("none", "loops"):
        return edges
    into = {node: [edge[2] for edge in edges if edge[1] == node] for node in range(NUM_NODES)}
    if kind == "mean":
        return [(*edge[:2], edge[2] / len(into[edge[1]]), *edge[3:]) for edge in edges]
    degree = {node: sum(weights) for node, weights in into.items()}
    return [
        (*edge[:2], edge[2] / (degree[edge[0]] * degree[edge[1]]) ** 0.5 if edge[2] else 0.0, *edge[3:])
        for edge in edges
    ]


def rounded(edges: list[Edge]) -> Counter[Edge]:
    """A bag of edges, with weights to a few digits."""
    return Counter((*edge[:2], round(edge[2], 4), *edge[3:]) for edge in edges)


number = st.integers(0, NUM_NODES - 1)
quarters = st.integers(-8, 8).map(lambda value: value / 4)
# few nodes and few types: parallel edges, loops and reverses are likely
edge_lists = st.lists(
    st.tuples(
        number,
        number,
        st.integers(0, 6).map(lambda n: n / 2),
        st.tuples(quarters, quarters),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=24,
)


@given(edge_lists, st.sampled_from(["none", "loops", "gcn", "mean"]), st.booleans(), st.booleans())
def test_features_and_types_follow_their_edge(
    edges: list[Edge], kind: Normalization, weighted: bool, undirected: bool
) -> None:
    """Through sorting, normalising, renumbering, cutting, turning and reversing."""
    if not weighted:
        edges = [(*edge[:2], 1.0, *edge[3:]) for edge in edges]
    data = graph_of(edges, weighted=weighted, undirected=undirected)
    if undirected:
        pairs = {edge[:2] for edge in edges}
        edges = edges + [(t, s, *rest) for s, t, *rest in edges if (t, s) not in pairs]  # type: ignore[misc]
    graph = prepare(data, CutSpec(2, 2, 4.0), kind)
    assert graph.edge_attr is not None
    assert graph.edge_type is not None
    found = entries(graph.matrix, graph.node_id, graph.edge_attr, graph.edge_type)
    rank = {node: row for row, node in enumerate(graph.node_id.tolist())}
    wanted = rounded(expected(edges, kind))
    assert rounded(found) == wanted
    assert num_normalized_entries(data.adjacency, kind, weighted=data.weighted, apart=True) == len(found)
    # rows ascend, and parallel edges keep the order in which they are given
    row = torch.repeat_interleave(torch.arange(NUM_NODES), graph.matrix.rowptr.long().diff())
    pair = row * NUM_NODES + graph.matrix.col
    assert bool((pair[1:] >= pair[:-1]).all())
    if kind == "none" and not weighted:
        bundles: dict[tuple[int, int], list[Edge]] = {}
        for edge in edges:
            bundles.setdefault(edge[:2], []).append(edge)
        order = sorted(bundles, key=lambda ends: (rank[ends[1]], rank[ends[0]]))
        assert found == [edge for ends in order for edge in bundles[ends]]
    entry = torch.arange(len(found)) if graph.entry_t is None else graph.entry_t
    back = entries(graph.matrix_t, graph.node_id, graph.edge_attr[entry], graph.edge_type[entry])
    assert rounded([(target, source, *rest) for source, target, *rest in back]) == wanted  # type: ignore[misc]
    assert torch.equal(graph.matrix.value[entry], graph.matrix_t.value)


def test_a_transpose_is_stored_apart_unless_edges_agree_both_ways() -> None:
    both = [(0, 1), (1, 0), (1, 2), (2, 1), (3, 3)]
    alike = [(*ends, 1.0, (float(sum(ends)), 1.0), sum(ends)) for ends in both]
    graph = prepare(graph_of(alike), CutSpec(1, 2, 4.0), "loops")
    assert graph.matrix_t is graph.matrix
    assert graph.entry_t is None
    for changed in ((0, 1, 1.0, (1.0, 2.0), 1), (0, 1, 1.0, (1.0, 1.0), 7)):
        graph = prepare(graph_of([changed, *alike[1:]]), CutSpec(1, 2, 4.0), "loops")
        assert graph.matrix_t is not graph.matrix
        assert graph.entry_t is not None
        assert graph.halo_backward is not graph.halo_forward
    graph = prepare(graph_of([changed, *alike[1:]]), CutSpec(1, 2, 4.0), "loops", reads_edges=False)
    assert graph.matrix_t is graph.matrix
    assert graph.edge_attr is graph.edge_type is graph.entry_t is None


def test_added_loops_equal_torch_geometrics() -> None:
    edges = random_graph(30, 90, seed=3).adjacency.to_scipy().tocoo()
    edge_index = torch.stack([torch.from_numpy(edges.col), torch.from_numpy(edges.row)]).long()
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    attr = torch.rand(edge_index.shape[1], 3)
    nodes = random_graph(30, 0)
    data = Graph.from_edge_index(edge_index, nodes.features, nodes.labels, edge_attr=attr, num_classes=3)
    graph = prepare(data, CutSpec(1, 1, 4.0), "loops")
    index, looped = add_remaining_self_loops(edge_index, attr, fill_value="mean", num_nodes=30)
    assert looped is not None
    theirs = {tuple(ends): row for ends, row in zip(index.T.tolist(), looped, strict=True)}
    assert graph.edge_attr is not None
    ours = entries(graph.matrix, graph.node_id, graph.edge_attr, torch.zeros(len(graph.edge_attr)))
    assert len(ours) == len(theirs)
    for source, target, _, row, _ in ours:
        torch.testing.assert_close(torch.tensor(row), theirs[source, target])


def test_parallel_edges_are_added_up_where_nobody_reads_what_they_have() -> None:
    edges: list[Edge] = [(0, 1, 1.0, (1.0, 1.0), 0), (0, 1, 1.0, (2.0, 2.0), 1), (2, 1, 1.0, (0.0, 0.0), 0)]
    data = graph_of(edges)
    assert data.num_edges == 3
    assert data.adjacency.value.tolist() == [1.0, 1.0, 1.0]
    graph = prepare(data, CutSpec(1, 1, 4.0), "none", reads_edges=False)
    assert sorted(graph.matrix.value.tolist()) == [1.0, 2.0]
    assert graph.facts.notes[-1] == "edges: this model does not read their 2 features and 2 types"
    assert (graph.facts.edge_dim, graph.facts.num_edge_types, graph.facts.num_edges) == (2, 2, 3)
    read = prepare(data, CutSpec(1, 1, 4.0), "none")
    assert read.matrix.value.tolist() == [1.0, 1.0, 1.0]
    assert not any("does not read" in note for note in read.facts.notes)
    assert num_normalized_entries(data.adjacency, "none", weighted=False) == 2


def many_edges(*, undirected: bool) -> Graph:
    generator = torch.Generator().manual_seed(0)
    nodes = random_graph(60, 0)
    return Graph.from_edge_index(
        torch.randint(60, (2, 300), generator=generator),
        nodes.features,
        nodes.labels,
        edge_attr=torch.rand(300, 3, generator=generator),
        edge_type=torch.randint(4, (300,), generator=generator),
        num_classes=3,
        undirected=undirected,
    )


@pytest.mark.parametrize("kind", ["gcn", "loops"])
@pytest.mark.parametrize("undirected", [False, True])
def test_a_file_holds_what_memory_would(
    kind: Normalization, undirected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, spec = many_edges(undirected=undirected), CutSpec(2, 3, 4.0)
    whole = prepare(data, spec, kind)
    small_blocks(monkeypatch, 16)
    assert_same(prepare_file(data, spec, kind, tmp_path / "made"), whole)
    whole.save(tmp_path / "saved")
    assert_same(PreparedGraph.load(tmp_path / "saved"), whole)
    check_prepared(tmp_path / "made")
    one = whole.with_one_chunk()
    assert one.edge_attr is whole.edge_attr
    assert whole.forward_alone().entry_t is None


def test_a_cut_changes_no_bit_of_a_loops_features() -> None:
    """Sums of features are made in the order of the given numbers, whichever terms cancel."""
    data = many_edges(undirected=False)
    assert data.edge_attr is not None
    huge = torch.where(torch.arange(300) % 3 == 0, 1e16, torch.where(torch.arange(300) % 3 == 1, -1e16, 1.0))
    data = replace(data, edge_attr=data.edge_attr * huge[:, None])
    found = []
    for spec in (CutSpec(1, 1, 4.0), CutSpec(2, 3, 4.0)):
        graph = prepare(data, spec, "loops")
        assert graph.edge_attr is not None
        assert graph.edge_type is not None
        edges = entries(graph.matrix, graph.node_id, graph.edge_attr, graph.edge_type)
        found.append(sorted(edge for edge in edges if edge[4] == 4))
    assert found[0] == found[1]
    assert len(found[0]) > 40


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("edge_attr", torch.zeros(3, 3), "size of its edge_attr"),
        ("edge_type", torch.full((1,), -1), "edge_type"),
        ("entry_t", torch.full((1,), 10**6), "entry_t names row 1000000"),
    ],
)
def test_a_damaged_file_is_refused(field: str, value: torch.Tensor, message: str, tmp_path: Path) -> None:
    graph = prepare(many_edges(undirected=False), CutSpec(2, 3, 4.0), "loops")
    value = value.expand(graph.matrix.num_entries) if len(value) == 1 else value
    replace(graph, **{field: value}).save(tmp_path / "graph")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        check_prepared(tmp_path / "graph")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edge_attr": torch.zeros(2, 3)}, r"edge_attr: expected shape \[3, edge_dim\].*got \[2, 3\]"),
        ({"edge_attr": torch.zeros(3, 1, 1)}, r"edge_attr: expected shape \[3, edge_dim\]"),
        ({"edge_attr": torch.zeros(3, 0)}, "edge_attr: there are no columns"),
        ({"edge_attr": torch.tensor([[0.0, 1.0], [2.0, float("nan")], [0, 0]])}, "nan of edge 1, column 1"),
        ({"edge_attr": ["a", "b", "c"]}, "edge_attr: it holds values of type"),
        ({"edge_type": torch.zeros(2)}, r"edge_type: expected shape \[3\]"),
        ({"edge_type": torch.tensor([0.5, 1.0, 2.0])}, "edge_type: 0.5 is no whole number"),
        ({"edge_type": torch.tensor([0, -2, 1])}, "edge_type: -2 is below 0, first at edge 1"),
    ],
)
def test_what_edges_can_not_have_is_named(fields: dict[str, object], message: str) -> None:
    nodes = random_graph(5, 0)
    edge_index = torch.tensor([[0, 1, 2], [1, 2, 3]])
    with pytest.raises(DataError, match=message):
        Graph.from_edge_index(edge_index, nodes.features, nodes.labels, **fields)  # type: ignore[arg-type]


def test_an_entry_that_counts_several_edges_has_no_features() -> None:
    data = many_edges(undirected=False)
    counts = data.adjacency.with_value(torch.full((data.num_edges,), 2.0))
    with pytest.raises(DataError, match="adjacency: an entry counts several edges"):
        replace(data, adjacency=counts)
    with pytest.raises(DataError, match=r"edge_attr: expected float32 \[300, edge_dim\]"):
        replace(data, edge_attr=torch.zeros(3, 2))
