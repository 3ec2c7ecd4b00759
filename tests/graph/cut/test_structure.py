"""Transposes, structures and counts that are made block by block, against whole dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import Chunk
from gnnpipe.graph.cut.halo import halo_rows, halo_rows_back
from gnnpipe.graph.cut.partition import Partition, halo_counts
from gnnpipe.graph.cut.structure import Structure
from gnnpipe.graph.prepare.moved import turned
from gnnpipe.graph.transpose import is_symmetric
from tests.graphs import dense, random_graph, small_blocks, weighted_adjacency

SIZES = [1, 7, 2**16]


def test_conversion_from_scipy_leaves_its_argument_alone() -> None:
    """A weighted adjacency shares its arrays with SciPy's matrix of it."""
    edges = torch.tensor([[2, 0, 1, 0], [0, 0, 0, 1]])
    adjacency = weighted_adjacency(edges, torch.tensor([2.0, 3.0, 4.0, 5.0]), 3)
    converted = Csr.from_scipy(adjacency.to_scipy())
    assert converted.col.tolist() == [0, 1, 2, 0]
    assert adjacency.col.tolist() == [2, 0, 1, 0]
    assert adjacency.value.tolist() == [2, 3, 4, 5]


def some_graphs() -> list[Csr]:
    return [
        random_graph(40, edges, seed=edges, undirected=undirected).adjacency
        for edges in (0, 30, 300)
        for undirected in (False, True)
    ]


@pytest.mark.parametrize("size", SIZES)
def test_transposes_made_of_pieces(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, size)
    for adjacency in some_graphs():
        back = turned(adjacency).whole()
        assert torch.equal(dense(back), dense(adjacency).T)
        assert back.to_scipy().has_sorted_indices
        assert back.col.dtype == adjacency.col.dtype
        assert is_symmetric(adjacency) == torch.equal(dense(adjacency), dense(adjacency).T)


def test_a_matrix_with_one_odd_value_is_not_symmetric(monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 7)
    adjacency = random_graph(40, 100, undirected=True).adjacency
    assert is_symmetric(adjacency)
    row = torch.arange(40).repeat_interleave(adjacency.rowptr.diff())
    for entry in (row != adjacency.col).nonzero().flatten().tolist():
        value = adjacency.value.clone()
        value[entry] += 2.0**-23
        assert not is_symmetric(adjacency.with_value(value))


@pytest.mark.parametrize("size", SIZES)
def test_structures_and_what_is_inside_some_nodes(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, size)
    nodes = np.flatnonzero(np.random.default_rng(0).random(40) < 0.6)
    for adjacency in some_graphs():
        structure = Structure.of(adjacency)
        there = dense(adjacency) > 0
        expected = (there | there.T) & ~torch.eye(40, dtype=torch.bool)
        assert np.array_equal(structure.to_scipy().toarray() > 0, expected)
        assert np.array_equal(
            structure.inside(nodes).to_scipy().toarray() > 0, expected[nodes][:, nodes].numpy()
        )
        assert structure.to_scipy().has_canonical_format


def test_the_structure_of_an_undirected_graph_is_its_adjacency() -> None:
    """So that cutting takes no copy of it."""
    ring = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    adjacency = weighted_adjacency(ring, torch.ones(4), 40)
    assert Structure.of(adjacency).indices.ctypes.data == adjacency.col.data_ptr()


def test_weights_mean_nothing_to_the_structure() -> None:
    """Neither zeros, nor edges that cancel their reverse, nor parallel ones."""
    edges = torch.tensor([[0, 1, 1, 2, 2], [1, 0, 2, 0, 0]])
    adjacency = weighted_adjacency(edges, torch.tensor([1.0, -1.0, 0.0, 2.0, -2.0]), 3)
    structure = Structure.of(adjacency)
    assert structure.indptr.tolist() == [0, 2, 4, 6]
    assert structure.indices.tolist() == [1, 2, 0, 2, 0, 1]


@given(st.integers(5, 30), st.integers(0, 120), st.integers(1, 20), st.integers(0, 99))
def test_halo_counts_and_rows_of_both_passes(nodes: int, edges: int, num_groups: int, seed: int) -> None:
    num_groups = min(num_groups, nodes)
    adjacency = (
        random_graph(nodes, edges, seed=seed).adjacency if nodes >= 5 else random_graph(5, 9).adjacency
    )
    nodes = adjacency.num_rows
    group = np.sort(np.random.default_rng(seed).permutation(np.arange(nodes) % num_groups))
    reads = [(i, j) for i, j in dense(adjacency).nonzero().tolist() if group[i] != group[j]]
    forward = {(group[i], j) for i, j in reads}
    backward = {(group[j], i) for i, j in reads}
    for least in (0, 2**24):  # a few groups at once, and all of them
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gnnpipe.graph.cut.partition.LEAST_NOTED_BYTES", least)
            counts = halo_counts(adjacency, Partition(group, num_groups, "metis"))
        assert counts == (len(forward), len(backward))
    stops = np.cumsum(np.bincount(group, minlength=num_groups)).tolist()
    ranges = tuple((Chunk(start, stop),) for start, stop in zip([0, *stops[:-1]], stops, strict=True))
    halo, back = halo_rows(adjacency, ranges), halo_rows_back(adjacency, ranges)
    for part in range(num_groups):
        assert halo[part].tolist() == sorted(j for reader, j in forward if reader == part)
        assert back[part].tolist() == sorted(i for reader, i in backward if reader == part)
