"""Attention equals torch_geometric's, and its written-out derivative that of autograd, in chunks too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv

from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.features import SparseRows
from gnnpipe.nn.layers.attention.attending import Attention, AttentionRunner
from gnnpipe.nn.layers.attention.gat import GatLayer
from gnnpipe.nn.layers.attention.gatv2 import Gatv2Layer
from gnnpipe.nn.runners import runner_of
from gnnpipe.nn.running import InputRows
from tests.nn.attending import Driver, Network, as_csr, network, train

NODES, IN = 20, 6
CHUNKS = [0, 7, 7, 13, NODES]  # one of them empty
ORDER = [2, 0, 3, 1]

# ours: torch_geometric's
GAT = {
    "weight": "lin.weight",
    "att_src": "att_src",
    "att_dst": "att_dst",
    "weight_edge": "lin_edge.weight",
    "att_edge": "att_edge",
    "bias": "bias",
}
GATV2 = {
    "weight_source": "lin_l.weight",
    "bias_source": "lin_l.bias",
    "weight_target": "lin_r.weight",
    "bias_target": "lin_r.bias",
    "weight_edge": "lin_edge.weight",
    "att": "att",
    "bias": "bias",
}
CASES: dict[str, dict[str, Any]] = {
    "one head": {"heads": 1, "head_width": 5},
    "heads": {"heads": 4, "head_width": 3},
    "heads, short": {"heads": 8, "head_width": 2},
    "mean of heads": {"heads": 3, "head_width": 4, "concat": False},
    "edge features": {"heads": 2, "head_width": 4, "edge_dim": 3},
    "one head, edge features": {"heads": 1, "head_width": 4, "edge_dim": 2},
    "no bias": {"heads": 2, "head_width": 3, "bias": False, "negative_slope": 0.1},
}


def ours(kind: str, options: dict[str, Any], in_features: int = IN, *, relu: bool = False) -> Attention:
    layers: dict[str, Callable[..., Attention]] = {"gat": GatLayer, "gatv2": Gatv2Layer}
    g = torch.Generator().manual_seed(3)
    return layers[kind](in_features, generator=g, relu=relu, **options).double()


def runner(layer: Attention, rows: InputRows = "any") -> AttentionRunner:  # type: ignore[type-arg]
    found = runner_of(layer, rows)
    assert isinstance(found, AttentionRunner)
    return found


def theirs(kind: str, layer: Attention, options: dict[str, Any]) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """torch_geometric's layer with the same weights, and its weights by our names."""
    options = dict(options)
    heads, width = options.pop("heads"), options.pop("head_width")
    edge_dim = options.pop("edge_dim", 0) or None
    conv: nn.Module = (GATConv if kind == "gat" else GATv2Conv)(
        IN, width, heads, add_self_loops=False, edge_dim=edge_dim, **options
    ).double()
    all_of_them = dict(conv.named_parameters())
    names = GAT if kind == "gat" else GATV2
    found = {name: all_of_them[names[name]] for name, _ in layer.named_parameters()}
    for name, weight in layer.named_parameters():
        found[name].data.copy_(like(weight.data, found[name]))
    return conv, found


def like(ours: Tensor, their: Tensor) -> Tensor:
    """Our weight in the shape of theirs."""
    return ours.t() if their.dim() == 2 else ours.view_as(their)


def assert_same(
    kind: str,
    options: dict[str, Any],
    graph: Network,
    bounds: list[int],
    order: list[int] | None = None,
    drop: float = 0.0,
) -> None:
    """Output and all gradients, those of torch_geometric's layer by autograd."""
    layer = ours(kind, options)
    conv, weights = theirs(kind, layer, options)
    g = torch.Generator().manual_seed(4)
    h = torch.randn(graph.num_nodes, IN, generator=g, dtype=torch.float64, requires_grad=True)
    mask = Dropout(drop, dropout_key(1, 2, 3), torch.arange(graph.num_nodes) + 7)
    expected = conv(mask(h), graph.edge_index, graph.attr)
    gradient = torch.randn(expected.shape, generator=g, dtype=torch.float64)
    expected.backward(gradient)
    found = train(runner(layer), graph, h.detach(), gradient, bounds, order, drop)
    torch.testing.assert_close(found.out, expected.detach())
    torch.testing.assert_close(found.h_gradient, h.grad)
    for name, weight in weights.items():
        reference = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(like(found.weights[name], weight), reference, msg=name)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_torch_geometric(kind: str, case: str) -> None:
    options = CASES[case]
    graph = network(NODES, 70, options.get("edge_dim", 0))
    assert_same(kind, options, graph, [0, NODES])
    assert_same(kind, options, graph, CHUNKS, ORDER, drop=0.5)


def test_shared_weights() -> None:
    options = {"heads": 2, "head_width": 3, "share_weights": True}
    assert_same("gatv2", options, network(NODES, 70), CHUNKS, ORDER)


@settings(max_examples=25, deadline=None)
@given(st.data())
@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_any_graph(kind: str, data: st.DataObject) -> None:
    """Isolated nodes, self loops, parallel edges, no edges at all; any cut and order of chunks."""
    nodes = data.draw(st.integers(1, 8))
    node = st.integers(0, nodes - 1)
    pairs = data.draw(st.lists(st.tuples(node, node), max_size=20))
    edge_index = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    cuts = sorted(data.draw(st.lists(st.integers(0, nodes), max_size=3)))
    bounds = [0, *cuts, nodes]
    order = data.draw(st.permutations(range(len(bounds) - 1)))
    heads = data.draw(st.integers(1, 3))
    options = {"heads": heads, "head_width": 2}
    assert_same(kind, options, Network(nodes, edge_index), bounds, list(order))


class Written(torch.autograd.Function):
    """A layer with its written-out derivative, for gradcheck."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, layer: Attention, graph: Network, *weights: Tensor) -> Tensor:
        ctx.h, ctx.layer, ctx.graph = h, layer, graph
        return Driver(runner(layer), graph, CHUNKS, ORDER).forward(h)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # gradcheck goes back several times, and going back uses up what is saved
        found = train(runner(ctx.layer), ctx.graph, ctx.h, gradients[0].clone(), CHUNKS, ORDER)
        return found.h_gradient, None, None, *found.weights.values()


@pytest.mark.parametrize("case", ["heads, short", "edge features"])
@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_gradcheck(kind: str, case: str) -> None:
    layer = ours(kind, {**CASES[case], "heads": 2, "head_width": 2})
    graph = network(NODES, 30, layer.edge_dim)
    h = torch.randn(NODES, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def run(h: Tensor, *weights: Tensor) -> Tensor:
        return Written.apply(h, layer, graph, *weights)

    weights = list(layer.parameters())
    assert torch.autograd.gradcheck(run, (h.requires_grad_(), *weights), fast_mode=True)


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_behind_a_relu_and_in_front_of_one(kind: str) -> None:
    layer, graph = ours(kind, CASES["heads"], relu=True), network(NODES, 70)
    g = torch.Generator().manual_seed(5)
    h = torch.randn(NODES, IN, generator=g, dtype=torch.float64).relu()
    gradient = torch.randn(NODES, layer.out_features, generator=g, dtype=torch.float64)
    out = train(runner(layer), graph, h, gradient, CHUNKS, ORDER, drop=0.3).out
    assert (out == 0).any()
    assert (out >= 0).all()
    gradient[out == 0] = 0  # as the layer behind hands it back
    any_rows = train(runner(layer, "any"), graph, h, gradient, CHUNKS, ORDER, drop=0.3)
    relu = train(runner(layer, "relu"), graph, h, gradient, CHUNKS, ORDER, drop=0.3)
    assert any_rows.h_gradient is not None
    assert relu.h_gradient is not None
    torch.testing.assert_close(relu.h_gradient, torch.where(h > 0, any_rows.h_gradient, 0.0))
    # the ReLU in front of its own output is that of the layer behind: without it the gradient is the same
    plain = train(runner(ours(kind, CASES["heads"])), graph, h, gradient, CHUNKS, ORDER, drop=0.3)
    torch.testing.assert_close(any_rows.weights, plain.weights)


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_sparse_features(kind: str) -> None:
    g = torch.Generator().manual_seed(6)
    features = torch.randn(NODES, 30, generator=g) * (torch.rand(NODES, 30, generator=g) < 0.2)
    graph, options = network(NODES, 70), CASES["heads"]
    dense = ours(kind, options, 30).float()
    sparse = ours(kind, {**options, "sparse_input": True}, 30).float()
    gradient = torch.randn(NODES, dense.out_features, generator=g)
    rows = SparseRows.from_csr(as_csr(features))
    one = train(runner(sparse, "features"), graph, rows, gradient, drop=0.5, features=True)
    other = train(runner(dense, "features"), graph, features, gradient, drop=0.5, features=True)
    torch.testing.assert_close(one.out, other.out)
    torch.testing.assert_close(one.weights, other.weights)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_evaluation_computes_what_training_does(kind: str, case: str) -> None:
    layer = ours(kind, CASES[case], relu=True)
    graph = network(NODES, 70, layer.edge_dim)
    h = torch.randn(NODES, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trained = Driver(runner(layer), graph, CHUNKS, ORDER).forward(h)
        table, carry = layer.message(h, lambda rows: rows)
        assert table.shape == (NODES, layer.width)
        z = layer.aggregate(graph.edges(0, NODES), table, carry)
        torch.testing.assert_close(layer.update(z, carry, None), trained)


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_logits_may_be_huge(kind: str) -> None:
    """Both ways of finding a safe ceiling: logits of one node's edges far below those of another's."""
    layer, graph = ours(kind, CASES["heads"]), network(NODES, 70)
    conv, _ = theirs(kind, layer, CASES["heads"])
    h = torch.randn(NODES, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h[:10] *= 3000.0
    expected = conv(h, graph.edge_index).detach()
    assert expected.isfinite().all()
    gradient = torch.ones_like(expected)
    found = train(runner(layer), graph, h, gradient)
    torch.testing.assert_close(found.out, expected)
    assert all(weight.isfinite().all() for weight in found.weights.values())
    torch.testing.assert_close(
        train(runner(layer.float()), graph, h.float(), gradient.float()).out.isfinite(),
        torch.ones_like(expected, dtype=torch.bool),
    )


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_logits_that_grew_since_do_not_weigh_more_than_one(kind: str) -> None:
    """A source whose row is newer than the sums that its readers have divided by."""
    layer, graph = ours(kind, CASES["heads"]), network(NODES, 70)
    h = torch.randn(NODES, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    driver = Driver(runner(layer), graph, CHUNKS)
    with torch.no_grad():
        out = driver.forward(h)
        driver.table *= 1e4
        gradient = driver.backward(torch.ones_like(out))
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e9  # exp(1e4) is infinite


def test_weights_are_drawn_as_torch_geometric_draws_them() -> None:
    g = torch.Generator().manual_seed(0)
    gat, gatv2 = GatLayer(200, 4, 32, g, edge_dim=5), Gatv2Layer(200, 4, 32, g, edge_dim=5)
    pairs = [(gat, GATConv(200, 32, 4, edge_dim=5), GAT), (gatv2, GATv2Conv(200, 32, 4, edge_dim=5), GATV2)]
    for layer, conv, names in pairs:
        references = dict(conv.named_parameters())
        for name, weight in layer.named_parameters():
            largest, reference = weight.abs().max(), references[names[name]].abs().max()
            torch.testing.assert_close(largest, reference, rtol=0.1, atol=0.0)


def test_edge_features_that_are_absent_are_named() -> None:
    layer = ours("gat", CASES["edge features"])
    with pytest.raises(ValueError, match=r"edge_dim \(3\): the graph has no features of edges"):
        train(runner(layer), network(NODES, 70), torch.zeros(NODES, IN).double(), torch.zeros(NODES, 8))
