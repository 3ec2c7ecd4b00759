"""Chunks: contiguous, balanced, described."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.config.run import SyntheticConfig
from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut import partition as partition_module
from gnnpipe.graph.cut.chunks import CutSpec, cut_graph
from gnnpipe.graph.cut.partition import Partition, halo_counts, node_cost, partition
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.graph.sources.synthetic import planted_partition
from tests.graphs import banded_graph, dense, local_graph, random_graph


@given(st.integers(3, 40), st.integers(0, 120), st.integers(0, 99), st.data())
@settings(max_examples=50)
def test_parts_and_chunks_cover_all_nodes_once(
    nodes: int, edges: int, seed: int, data: st.DataObject
) -> None:
    parts = data.draw(st.integers(1, nodes))
    chunks = data.draw(st.integers(1, nodes // parts))
    adjacency = random_graph(nodes, edges, seed=seed).adjacency
    cut = cut_graph(adjacency, CutSpec(parts, chunks, 4.0))
    assert sorted(cut.order.tolist()) == list(range(nodes))
    ranges = [chunk for part in cut.ranges for chunk in part]
    assert [chunk.start for chunk in ranges] == [0, *[chunk.stop for chunk in ranges[:-1]]]
    assert ranges[-1].stop == nodes
    assert [len(part) for part in cut.ranges] == [chunks] * parts
    assert all(part[-1].stop > part[0].start for part in cut.ranges)
    assert 0 <= cut.cut_fraction <= 1


def test_tiny_groups_come_from_the_locality_order_and_none_is_empty() -> None:
    adjacency = random_graph(20, 40).adjacency
    groups = partition(adjacency, 13, np.ones(20))
    assert groups.method == "rcm"
    assert groups.sizes().all()


def test_without_metis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymetis", None)
    adjacency = random_graph(60, 200, undirected=True).adjacency
    with pytest.warns(UserWarning, match="pymetis can't be imported.*pip install pymetis"):
        groups = partition(adjacency, 4, np.ones(60))
    assert groups.method == "rcm"
    assert (np.bincount(groups.assignment) > 0).all()


def planted(num_nodes: int = 2000) -> Csr:
    return planted_partition(
        SyntheticConfig(num_nodes=num_nodes, num_classes=4, blocks_per_class=2, homophily=0.95)
    ).adjacency


def test_kaminpar_cuts_large_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above its threshold, with the costs of nodes, and the same way each time."""
    pytest.importorskip("kaminpar")
    adjacency = planted()
    cost = node_cost(adjacency, 4.0) * np.linspace(1, 3, adjacency.num_rows)
    assert partition(adjacency, 8, cost).method == "metis"
    monkeypatch.setattr(partition_module, "LEAST_KAMINPAR_ENTRIES", 1000)
    first, second = (partition(adjacency, 8, cost, allow_empty=False) for _ in range(2))
    assert first.method == "kaminpar"
    assert np.array_equal(first.assignment, second.assignment)
    weight = np.bincount(first.assignment, weights=cost, minlength=8)
    assert weight.max() / weight.mean() < 1.05
    reader = np.repeat(first.assignment, np.diff(adjacency.rowptr.numpy()))
    assert (reader != first.assignment[adjacency.col.numpy()]).mean() < 0.1
    assert cut_graph(adjacency, CutSpec(2, 4, 4.0)).part_method == "kaminpar"


def test_without_kaminpar_metis_cuts_large_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaminpar", None)
    monkeypatch.setattr(partition_module, "LEAST_KAMINPAR_ENTRIES", 1000)
    assert partition(planted(), 4, np.ones(2000)).method == "metis"


def test_a_cut_that_leaves_groups_empty_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "LEAST_KAMINPAR_ENTRIES", 1000)
    monkeypatch.setattr(partition_module, "_import_kaminpar", lambda: sys)
    nodes = np.arange(2000)
    monkeypatch.setattr(partition_module, "kaminpar_cut", lambda *_: np.where(nodes < 1000, 0, 2))
    assert partition(planted(), 4, np.ones(2000)).method == "kaminpar"
    groups = partition(planted(), 4, np.ones(2000), allow_empty=False)
    assert groups.method == "rcm"
    assert groups.sizes().all()


def test_kaminpar_needs_room_in_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kaminpar")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "graph.parhip")

    monkeypatch.setattr(partition_module, "LEAST_KAMINPAR_ENTRIES", 1000)
    monkeypatch.setattr(partition_module, "write_arrays", full)
    with pytest.raises(DataError, match=r"TMPDIR: can't write the graph for KaMinPar to .*make room there"):
        partition(planted(), 4, np.ones(2000))


def test_metis_finds_planted_blocks() -> None:
    data = planted_partition(
        SyntheticConfig(num_nodes=2000, num_classes=4, blocks_per_class=2, homophily=0.95)
    )
    cut = cut_graph(data.adjacency, CutSpec(1, 8, 64.0))
    assert cut.chunk_method == "metis"
    assert cut.cut_fraction < 0.1
    assert cut.chunk_imbalance < 1.1


def test_halo_of_a_small_graph() -> None:
    # 0 -> 2, 0 -> 3, 1 -> 2, 2 -> 3; parts {0, 1} {2} {3}: two others read node 0, one node 1, one node 2;
    # backward, part {0, 1} reads 2 and 3 and part {2} reads 3
    edges = torch.tensor([[0, 0, 1, 2], [2, 3, 2, 3]])
    import scipy.sparse as sp

    adjacency = Csr.from_scipy(sp.coo_matrix((np.ones(4), (edges[1], edges[0])), shape=(4, 4)).tocsr())
    groups = Partition(np.array([0, 0, 1, 2]), 3, "metis")
    assert halo_counts(adjacency, groups) == (2 + 1 + 1, 2 + 1)


def test_work_of_a_node_is_its_row_and_the_mean_of_its_edges() -> None:
    # 0 -> 1, 0 -> 2, 0 -> 3, 1 -> 3
    edges = torch.tensor([[0, 0, 0, 1], [1, 2, 3, 3]])
    plain = random_graph(4, 0)
    masks = (plain.train_mask, plain.val_mask, plain.test_mask)
    data = Graph.from_edge_index(edges, torch.ones(4, 1), plain.labels, masks)
    assert node_cost(data.adjacency, 10.0).tolist() == [11.5, 11.0, 10.5, 11.0]


@pytest.mark.parametrize("parts", [1, 2])
def test_messages_and_width_of_a_directed_graph(parts: int) -> None:
    """Counted edge by edge: from the chunk that reads to the one that is read."""
    one_way = banded_graph(40, 3, seed=1)
    for data in (one_way, turned(one_way)):
        graph = prepare(data, CutSpec(parts, 5, 4.0), "mean")
        chunk, part = torch.empty(40, dtype=torch.int64), torch.empty(40, dtype=torch.int64)
        for p, ranges in enumerate(graph.ranges):
            for c, span in enumerate(ranges):
                chunk[span.start : span.stop], part[span.start : span.stop] = c, p
        expected = torch.zeros(2, 5, 5, dtype=torch.int64)
        A = dense(data.adjacency)[graph.node_id][:, graph.node_id]
        for reader, owner in A.nonzero().tolist():
            expected[int(part[reader] != part[owner]), chunk[reader], chunk[owner]] += 1
        assert torch.equal(graph.chunk_edges, expected)
        assert graph.width == max(int(abs(chunk[i] - chunk[j])) for i, j in A.nonzero().tolist())
    assert not torch.equal(expected.sum(dim=0), expected.sum(dim=0).T)


@pytest.mark.parametrize("way", [(0, 1), (1, 0)])
def test_width_counts_messages_either_way_along_the_line(way: tuple[int, int]) -> None:
    """All messages of a directed path go one way."""
    edges = torch.stack([torch.arange(39), torch.arange(1, 40)])[list(way)]
    graph = prepare(local_graph(edges, 40, 0, undirected=False), CutSpec(1, 5, 4.0, local=True), "mean")
    assert graph.width == 1


def turned(data: Graph) -> Graph:
    """With every edge the other way round, from the higher number to the lower one."""
    adjacency = dense(data.adjacency)
    index = (adjacency + adjacency.T).triu(1).nonzero().T
    masks = (data.train_mask, data.val_mask, data.test_mask)
    return Graph.from_edge_index(index.flip(0), data.features, data.labels, masks)  # type: ignore[arg-type]


@pytest.mark.parametrize("undirected", [True, False])
def test_prepared_graph_survives_its_file(tmp_path: Path, undirected: bool) -> None:
    data = random_graph(40, 160, undirected=undirected, num_features=30, sparse_features=True)
    graph = prepare(data, CutSpec(2, 5, 4.0), "gcn", num_rivals=3)
    graph.save(tmp_path / "graph")
    again = PreparedGraph.load(tmp_path / "graph")
    assert again.facts == graph.facts
    assert again.ranges == graph.ranges
    assert (again.matrix_t is again.matrix) == undirected
    assert (again.halo_backward is again.halo_forward) == undirected
    ours, expected = again.halo_forward + again.halo_backward, graph.halo_forward + graph.halo_backward
    assert all(torch.equal(mine, other) for mine, other in zip(ours, expected, strict=True))
    assert isinstance(again.features, Csr)
    assert isinstance(graph.features, Csr)
    for ours, theirs in (
        (again.matrix, graph.matrix),
        (again.matrix_t, graph.matrix_t),
        (again.features, graph.features),
    ):
        assert torch.equal(dense(ours), dense(theirs))
    assert torch.equal(again.labels, graph.labels)
    assert torch.equal(again.node_id, graph.node_id)
    assert all(torch.equal(again.masks[name], graph.masks[name]) for name in graph.masks)
    assert (tmp_path / "graph").read_bytes()[8:9] == b"{"  # safetensors, no pickle


def test_rows_move_together() -> None:
    data = random_graph(30, 90)
    graph = prepare(data, CutSpec(2, 4, 4.0), "mean")
    assert isinstance(graph.features, torch.Tensor)
    assert isinstance(data.features, torch.Tensor)
    assert torch.equal(graph.features, data.features[graph.node_id])
    assert torch.equal(graph.labels, data.labels[graph.node_id])
    degree = dense(data.adjacency).count_nonzero(dim=1)
    assert torch.equal(dense(graph.matrix).count_nonzero(dim=1), degree[graph.node_id])
