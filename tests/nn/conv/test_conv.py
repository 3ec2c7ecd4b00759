"""`Conv` as a layer: widths, generator, what it reads; and the graphs on which convolutions are tried."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import MLP
from torch_geometric.nn import conv as pyg

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.prepare.normalize import Normalization, normalized
from gnnpipe.nn.batch_norm import BatchNorm
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.blocks.runner import BlockRunner
from gnnpipe.nn.conv import Conv
from gnnpipe.nn.conv.sample import CHUNKS, NUM_NODES, EdgeKinds, sample
from gnnpipe.nn.dropout import Dropout, dropout_key

WIDTHS: list[tuple[Callable[[], nn.Module], int, int]] = [
    (lambda: pyg.SAGEConv(7, 5), 7, 5),
    (lambda: pyg.SAGEConv((7, 7), 5), 7, 5),
    (lambda: pyg.GATv2Conv(7, 5, heads=3), 7, 15),
    (lambda: pyg.GATConv(7, 5, heads=3, concat=False, edge_dim=2), 7, 5),
    (lambda: pyg.GINConv(MLP([7, 9, 5])), 7, 5),
    (lambda: pyg.GINEConv(nn.Linear(7, 5), edge_dim=2), 7, 5),
    (lambda: pyg.EdgeConv(nn.Linear(14, 5)), 7, 5),
    (lambda: pyg.NNConv(7, 5, nn.Linear(3, 35)), 7, 5),
    (lambda: pyg.CGConv(7, 3), 7, 7),
    (lambda: pyg.GatedGraphConv(7, 1), 7, 7),
    (lambda: pyg.RGCNConv(7, 5, 3), 7, 5),
]


@pytest.mark.parametrize(("make", "in_features", "out_features"), WIDTHS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_widths(make: Callable[[], nn.Module], in_features: int, out_features: int, device: str) -> None:
    with torch.device(device):
        layer = Conv(make(), norm="batch", act=nn.ReLU(), skip="linear")
    assert (layer.in_features, layer.width, layer.out_features) == (in_features, in_features, out_features)
    # GatedGraphConv makes a weight that ignores the meta device
    assert {weight.device.type for weight in layer.parameters()} in ({device}, {device, "cpu"})
    assert layer.relu


def test_the_generator_of_the_process_is_not_touched() -> None:
    torch.manual_seed(3)
    conv = pyg.GATConv(8, 4, dropout=0.5)
    before, weights = torch.get_rng_state(), copy.deepcopy(conv.state_dict())
    conv.eval()
    layer = Conv(conv)
    layer.settle(EdgeKinds(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(weights[name], weight) for name, weight in conv.state_dict().items())
    assert conv.dropout == 0.5
    assert not conv.training


def test_in_features_of_a_convolution_without_weights() -> None:
    layer = Conv(pyg.SimpleConv("mean"), in_features=9)
    assert (layer.in_features, layer.out_features) == (9, 9)


@pytest.mark.parametrize(
    ("make", "draws"),
    [
        (lambda: pyg.SAGEConv(8, 8), False),
        (lambda: pyg.GATConv(8, 8, dropout=0.5), True),
        (lambda: pyg.GINConv(MLP([8, 8, 8], dropout=0.5)), True),
    ],
)
def test_draws(make: Callable[[], nn.Module], draws: bool) -> None:
    assert Conv(make()).draws == draws


@pytest.mark.parametrize(
    ("make", "reads"),
    [
        (lambda: pyg.SAGEConv(8, 8), set()),
        (lambda: pyg.GraphConv(8, 8), {"weight"}),
        (lambda: pyg.GATConv(8, 8), set()),
        (lambda: pyg.GATConv(8, 8, edge_dim=2), {"attr"}),
        (lambda: pyg.RGATConv(8, 8, 3, edge_dim=2), {"attr", "type"}),
        (lambda: pyg.AntiSymmetricConv(8), {"weight"}),
    ],
)
def test_reads(make: Callable[[], nn.Module], reads: set[str]) -> None:
    assert Conv(make()).reads == reads


def test_batch_norms_become_ours() -> None:
    layer = Conv(pyg.GENConv(8, 8), norm=nn.BatchNorm1d(8))
    assert isinstance(layer.norm, BatchNorm)
    assert not [module for module in layer.modules() if isinstance(module, nn.BatchNorm1d)]


def test_skip() -> None:
    assert isinstance(Conv(pyg.SAGEConv(8, 8), skip=True).skip, nn.Identity)
    linear = Conv(pyg.SAGEConv(8, 6), skip=True).skip
    assert isinstance(linear, nn.Linear)
    assert linear.weight.shape == (6, 8)
    assert linear.bias is None


def test_dropout_inside_is_the_same_both_times() -> None:
    """Rows that are made again on the way back have the masks of the way forward; epochs and parts differ."""
    torch.manual_seed(0)
    layer = Conv(pyg.GATConv(8, 4, dropout=0.6, add_self_loops=False, edge_dim=2))
    layer.settle(EdgeKinds(2))
    runner = BlockRunner(layer, "any")
    edges = sample(EdgeKinds(2), 0).to(torch.float32).edges.rows(*CHUNKS[0])
    table = torch.randn(NUM_NODES, 8)

    def saved(epoch: int, first: int = 0) -> object:
        nodes = torch.arange(edges.num_rows) + first
        return runner.saved(Dropout(0.0, dropout_key(0, epoch, 0), nodes), [])

    outs = []
    for keys in ((0, 0), (0, 0), (1, 0), (0, 500)):
        out = torch.empty(edges.num_rows, layer.out_features)
        runner.combine(saved(*keys), edges, table, out)  # type: ignore[arg-type]
        outs.append(out)
    assert torch.equal(outs[0], outs[1])
    assert not torch.allclose(outs[0], outs[2])
    assert not torch.allclose(outs[0], outs[3])  # the same rows of another part's table
    # with the same masks both times, the gradient is the slope along a small step
    step = torch.randn_like(table) * 1e-3
    direction = torch.randn_like(outs[0])
    own, referenced = runner.push(saved(0), edges, table, direction)  # type: ignore[arg-type]
    assert own is not None
    assert referenced is not None
    slope = (referenced * step[edges.block.referenced]).sum() + (own * edges.own(step)).sum()
    ends = []
    for sign in (-1, 1):
        out = torch.empty_like(outs[0])
        runner.combine(saved(0), edges, table + sign * step, out)  # type: ignore[arg-type]
        ends.append((out * direction).sum())
    torch.testing.assert_close((ends[1] - ends[0]) / 2, slope, rtol=1e-2, atol=1e-4)


@given(seed=st.integers(0, 1000), start=st.integers(0, 39), size=st.integers(1, 10))
@settings(max_examples=30, deadline=None)
def test_a_block_as_a_graph_of_its_own(seed: int, start: int, size: int) -> None:
    """Each row once, own ones first, and the same edges."""
    block = sample(EdgeKinds(), seed).edges.rows(start, start + size).block
    nodes = [*range(start, start + size), *block.referenced[block.joint.others].tolist()]
    assert len(set(nodes)) == len(nodes)
    assert set(nodes[size:]) == set(block.referenced.tolist()) - set(range(start, start + size))
    joint = [(nodes[source], nodes[target]) for source, target in block.joint.edge_index.T.tolist()]
    referenced = block.referenced.tolist()
    assert joint == [(referenced[source], start + target) for source, target in block.edge_index.T.tolist()]


@pytest.mark.parametrize("kind", ["none", "loops", "gcn", "mean"])
@pytest.mark.parametrize("seed", [0, 1])
def test_samples_are_normalised_as_graphs_are(kind: Normalization, seed: int) -> None:
    graph = sample(EdgeKinds(), seed)
    ours = graph.normalized(kind).edges.matrix
    theirs = normalized(graph.to(torch.float32).edges.matrix, kind, weighted=True)
    assert torch.equal(ours.rowptr, theirs.rowptr.long())
    torch.testing.assert_close(dense(ours), dense(theirs))


def dense(matrix: Csr) -> torch.Tensor:
    return torch.from_numpy(matrix.to_scipy().toarray()).float()


def test_samples_have_what_is_hard() -> None:
    graph = sample(EdgeKinds(2, 3), 0)
    source, target = graph.edge_index
    assert (source == target).any()
    assert len(torch.unique(target * NUM_NODES + source)) < len(source)
    assert len(torch.unique(target)) < NUM_NODES
    assert (target.diff() >= 0).all()
    quiet = sample(EdgeKinds(), 1, last_is_quiet=True).edges
    assert Edges.rows(quiet, *CHUNKS[-1]).matrix.num_entries == 0
