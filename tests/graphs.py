"""Small graphs for tests."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.splits import random_split

SHARED_DATA = Path(os.environ.get("GNNPIPE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def random_graph(
    num_nodes: int,
    num_edges: int,
    *,
    seed: int = 0,
    num_features: int = 6,
    num_classes: int = 3,
    undirected: bool = False,
    multilabel: bool = False,
    num_values: int = 0,
    sparse_features: bool = False,
) -> Graph:
    """A random graph, by default directed. It may have self loops and parallel edges.

    With ``num_values``, labels are as many values to be predicted, in the thousands.
    """
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, num_edges), generator=generator)
    features = torch.randn(num_nodes, num_features, generator=generator)
    if sparse_features:
        features[torch.rand(features.shape, generator=generator) > 0.08] = 0.0
    if num_values:
        labels = 1000 + 300 * torch.randn(num_nodes, num_values, generator=generator)
    elif multilabel:
        labels = (torch.rand(num_nodes, num_classes, generator=generator) > 0.5).float()
    else:
        labels = torch.randint(num_classes, (num_nodes,), generator=generator)
    masks = random_split(num_nodes, seed=seed) if num_nodes >= 5 else one_node_each(num_nodes)
    return Graph.from_edge_index(
        edge_index, features, labels, masks, num_classes=num_values or num_classes, undirected=undirected
    )


def cora_like(seed: int = 0) -> Data:
    """A graph with Cora's numbers of nodes, edges, words, classes and its split, and about as hard to learn.

    Papers cite papers of their own class four times out of five, and a class has words that it uses more.
    """
    g = torch.Generator().manual_seed(seed)
    num_nodes, num_words, num_classes, num_citations = 2708, 1433, 7, 5278
    y = torch.randint(num_classes, (num_nodes,), generator=g)
    often = 0.010 + 0.024 * (torch.rand(num_classes, num_words, generator=g) < 0.1)
    x = (torch.rand(num_nodes, num_words, generator=g) < often[y]).float()
    source = torch.randint(num_nodes, (num_citations,), generator=g)
    cited = torch.randint(num_nodes, (num_citations,), generator=g)
    of_a_class = [torch.nonzero(y == index).flatten() for index in range(num_classes)]
    for edge in torch.nonzero(torch.rand(num_citations, generator=g) < 0.77).flatten().tolist():
        own = of_a_class[int(y[source[edge]])]
        cited[edge] = own[int(torch.randint(len(own), (1,), generator=g))]
    edges = torch.stack([source, cited])
    order = torch.randperm(num_nodes, generator=g)
    train = torch.cat([order[y[order] == index][:20] for index in range(num_classes)])
    rest = order[~torch.isin(order, train)]
    masks = {
        f"{name}_mask": torch.zeros(num_nodes, dtype=torch.bool).index_fill_(0, nodes, True)
        for name, nodes in (("train", train), ("val", rest[:500]), ("test", rest[500:1500]))
    }
    return Data(x=x, y=y, edge_index=torch.cat([edges, edges.flip(0)], dim=1).unique(dim=1), **masks)


def grid_graph(rows: int, columns: int, *, seed: int = 0) -> Graph:
    """A grid of ``rows * columns`` nodes, numbered at random."""
    number = torch.arange(rows * columns).view(rows, columns)
    across = torch.stack([number[:, :-1].flatten(), number[:, 1:].flatten()])
    down = torch.stack([number[:-1].flatten(), number[1:].flatten()])
    return local_graph(torch.cat([across, down], dim=1), rows * columns, seed)


def road_graph(num_nodes: int, *, seed: int = 0) -> Graph:
    """Points of a long strip, each joined to those nearby: degrees and distances vary, and edges cross."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(num_nodes, 2, generator=generator) * torch.tensor([num_nodes / 6.0, 2.0])
    near = torch.cdist(place, place) < 0.9
    return local_graph(near.triu(1).nonzero().T, num_nodes, seed)


def banded_graph(num_nodes: int, band: int, *, seed: int = 0) -> Graph:
    """Directed edges between nodes whose numbers differ by ``band`` at most, as between slices of time."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(num_nodes, (3 * num_nodes,), generator=generator)
    target = (source + torch.randint(-band, band + 1, source.shape, generator=generator)).clamp(
        0, num_nodes - 1
    )
    return local_graph(torch.stack([source, target]), num_nodes, seed, undirected=False)


def local_graph(edge_index: Tensor, num_nodes: int, seed: int, *, undirected: bool = True) -> Graph:
    """A graph with these edges and with random numbering, 6 features and 3 classes."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(num_nodes, generator=generator)
    return Graph.from_edge_index(
        shuffled[edge_index],
        torch.randn(num_nodes, 6, generator=generator),
        torch.randint(3, (num_nodes,), generator=generator),
        random_split(num_nodes, seed=seed) if num_nodes >= 5 else one_node_each(num_nodes),
        num_classes=3,
        undirected=undirected,
    )


def one_node_each(num_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test masks of one node each, for graphs too small for a split.

    Needs three nodes at least.
    """
    masks = torch.zeros(3, num_nodes, dtype=torch.bool)
    for index in range(3):
        masks[index, index] = True
    return masks[0], masks[1], masks[2]


def weighted_adjacency(edge_index: Tensor, weight: Tensor, num_nodes: int) -> Csr:
    """The adjacency of weighted edges, parallel ones as entries of their own in the order given."""
    order = torch.argsort(edge_index[1], stable=True)
    rowptr = torch.zeros(num_nodes + 1, dtype=torch.int32)
    rowptr[1:] = torch.bincount(edge_index[1], minlength=num_nodes).cumsum(0)
    return Csr(rowptr, edge_index[0][order].to(torch.int32), weight[order], num_nodes)


def weighted_graph(edge_index: Tensor, weight: Tensor, num_nodes: int) -> Graph:
    """A graph of weighted edges with the nodes of `random_graph`."""
    plain = random_graph(num_nodes, 0)
    return replace(plain, adjacency=weighted_adjacency(edge_index, weight, num_nodes), weighted=True)


def small_blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Make passes over small graphs go through several blocks of at most ``size`` entries."""
    monkeypatch.setattr("gnnpipe.graph.blocks.BLOCK_ENTRIES", size)
    monkeypatch.setattr("gnnpipe.graph.transpose.BLOCK_ENTRIES", size)
    monkeypatch.setattr("gnnpipe.graph.prepare.edge_rows.BLOCK_ENTRIES", size)


def dense(matrix: Csr) -> Tensor:
    """The matrix as a dense tensor."""
    return torch.from_numpy(matrix.to_scipy().toarray())


def private_root(tmp_path: Path, name: str) -> Path:
    """A writable copy of one of the shared data folders; skips the test where there is none."""
    source = SHARED_DATA / name
    if not source.exists():
        pytest.skip(f"real data not found in {SHARED_DATA}; set GNNPIPE_TEST_DATA to have these tests run")
    target = tmp_path / name
    shutil.copytree(source, target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target
