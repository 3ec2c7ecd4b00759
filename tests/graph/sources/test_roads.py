"""The built-in road network."""

import time

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnpipe
from gnnpipe.config.run import SyntheticConfig
from gnnpipe.errors import ConfigError
from gnnpipe.graph.cut.locality import Locality
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.roads import NODES_PER_LANDMARK, road_network


def roads(num_nodes: int, **changes: object) -> Graph:
    return road_network(SyntheticConfig(kind="roads", num_nodes=num_nodes, **changes))  # type: ignore[arg-type]


def as_networkx(data: Graph) -> nx.Graph:
    return nx.from_scipy_sparse_array(data.adjacency.to_scipy())


@settings(max_examples=15, deadline=None)
@given(st.integers(100, 300), st.floats(2.1, 3.6), st.integers(0, 99))
def test_streets_are_planar_connected_and_of_the_degree_asked_for(
    num_nodes: int, degree: float, seed: int
) -> None:
    data = roads(num_nodes, avg_degree=degree, seed=seed)
    adjacency, network = data.adjacency.to_scipy(), as_networkx(data)
    assert (adjacency != adjacency.T).nnz == 0
    assert set(adjacency.data) == {1.0}
    assert nx.number_of_selfloops(network) == 0
    assert nx.is_connected(network)
    assert nx.check_planarity(network)[0]
    # a number of edges is whole; and at its rim a small grid has less than two edges a crossing, so that the
    # highest degrees are out of its reach
    assert min(degree, 3.2) - 10 / num_nodes <= data.num_edges / num_nodes <= degree + 2 / num_nodes


def test_ways_are_long_and_chunks_along_a_line_read_their_neighbours_only() -> None:
    data = roads(2000)
    assert data.num_edges / 2000 == pytest.approx(2.6, abs=0.01)
    assert max(dict(as_networkx(data).degree()).values()) <= 4
    assert nx.diameter(as_networkx(data), usebounds=True) >= 1.5 * 2000**0.5
    assert Locality(data.adjacency, np.ones(2000)).cut(12).width == 1


def test_classes_are_quantiles_of_the_hops_to_the_nearest_landmark() -> None:
    data = roads(3000, num_classes=3, num_features=32, noise=0.05)
    assert isinstance(data.features, torch.Tensor)
    # two kinds of rows; landmarks are the few
    kind = (data.features @ data.features[0]) > 0
    landmarks = kind if kind.float().mean() < 0.5 else ~kind
    assert int(landmarks.sum()) == 3000 // NODES_PER_LANDMARK
    sources = set(landmarks.nonzero().squeeze(1).tolist())
    hops = nx.multi_source_dijkstra_path_length(as_networkx(data), sources, weight=None)
    found = torch.tensor([hops[node] for node in range(3000)])
    for label in range(2):  # every node of a class is nearer than any of the next one
        assert found[data.labels == label].max() < found[data.labels == label + 1].min()
    shares = torch.bincount(data.labels) / 3000
    assert shares.min() > 0.2
    assert found[data.labels == 2].float().mean() > 10


def test_a_graph_follows_from_its_seed() -> None:
    one, same, other = roads(500), roads(500), roads(500, seed=1)
    assert torch.equal(one.adjacency.col, same.adjacency.col)
    assert torch.equal(one.labels, same.labels)
    assert isinstance(one.features, torch.Tensor)
    assert isinstance(same.features, torch.Tensor)
    assert torch.equal(one.features, same.features)
    assert not torch.equal(one.labels, other.labels)


def test_users_name_the_kind() -> None:
    data = gnnpipe.load("synthetic", synthetic={"kind": "roads", "num_nodes": 300})
    assert torch.equal(data.adjacency.col, roads(300).adjacency.col)


@pytest.mark.slow
def test_a_million_nodes_in_seconds() -> None:
    start = time.process_time()
    assert roads(1_000_000, num_features=8).num_nodes == 1_000_000
    assert time.process_time() - start < 30  # 7 s on a quiet machine


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_nodes": 99}, "synthetic.num_nodes: 99 is out of range; use 100 to"),
        ({"avg_degree": 20}, "synthetic.avg_degree: 20 is out of range; use 2.1 to 3.6"),
        (
            {"reach": 1},
            "synthetic.reach: 1 belongs to --synthetic.kind blocks, and the kind is roads; leave it out",
        ),
        ({"homophily": 0.5}, "synthetic.homophily: 0.5 belongs to"),
    ],
)
def test_errors(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        roads(int(changes.pop("num_nodes", 1000)), **changes)
