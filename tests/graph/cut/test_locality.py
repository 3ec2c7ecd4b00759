"""Chunks along a line: as large as the graph is wide at each place."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.locality import Locality, near_bounds


def line_graph(reach: list[int]) -> Csr:
    """Nodes in a line, of which node i is joined with the ``reach[i]`` behind it."""
    num_nodes = len(reach)
    ends = [(node, other) for node, far in enumerate(reach) for other in range(node + 1, node + far + 1)]
    ends = [(node, other) for node, other in ends if other < num_nodes]
    row, col = np.array(ends).T
    ones = np.ones(2 * len(row))
    both = np.concatenate([row, col]), np.concatenate([col, row])
    return Csr.from_scipy(sp.csr_matrix((ones, both), shape=(num_nodes, num_nodes)))


# 60 nodes that reach 2 others, 60 that reach 10, 60 that reach 2
WIDE = line_graph([2] * 60 + [10] * 60 + [2] * 60)


def test_a_wide_place_gets_larger_chunks() -> None:
    locality = Locality(WIDE, np.ones(180))
    assert locality.cut(18).width == 1  # ten nodes each
    cut = locality.cut(30)  # six each would span two
    assert cut.width == 1
    sizes = np.bincount(cut.chunk)
    assert len(sizes) == 30
    assert sizes[:8].max() < 10 <= sizes[12:18].max()
    np.testing.assert_allclose(cut.shares, sizes / sizes.mean())


def test_equal_chunks_stay_where_they_will_do() -> None:
    assert set(np.bincount(Locality(WIDE, np.ones(180)).cut(15).chunk)) == {12}


def test_no_cut_into_more_chunks_than_the_graph_is_long() -> None:
    assert Locality(WIDE, np.ones(180)).cut(90).width > 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=10, max_size=60), st.integers(2, 12), st.integers(0, 99))
def test_edges_join_neighbours_and_chunks_are_as_many_as_asked_for(
    reach: list[int], num_chunks: int, seed: int
) -> None:
    num_nodes = len(reach)
    farthest = np.minimum(np.arange(num_nodes) + reach, num_nodes - 1)
    work = np.random.default_rng(seed).integers(1, 9, num_nodes)
    bounds = near_bounds(np.maximum.accumulate(farthest), np.cumsum(work), num_chunks)
    if bounds is None:  # even the earliest ends make fewer chunks
        ends, count = [1], 1
        while ends[-1] < num_nodes:
            ends.append(int(max(farthest[: ends[-1]].max() + 1, ends[-1] + 1)))
            count += 1
        assert count < num_chunks
        return
    assert len(bounds) == num_chunks + 1
    assert (bounds[0], bounds[-1]) == (0, num_nodes)
    assert (np.diff(bounds) > 0).all()
    chunk = np.repeat(np.arange(num_chunks), np.diff(bounds))
    assert (chunk[farthest] - chunk <= 1).all()
