"""Convolutions that can't be run are refused, with the reason that is true and a cure that works."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphNorm, LayerNorm, MessagePassing, TransformerConv
from torch_geometric.nn import conv as pyg

from gnnpipe.errors import ConfigError
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.conv import Conv
from gnnpipe.nn.conv.call import Call
from gnnpipe.nn.conv.sample import EdgeKinds
from gnnpipe.nn.conv.selftest import Subject, failures
from tests.nn.conv.accepted import EDGE_DIM, NUM_TYPES, OUT, ROWS

KINDS = EdgeKinds(EDGE_DIM, NUM_TYPES)


class Own(MessagePassing):
    """A sum of neighbours, to be spoilt in many ways."""

    def __init__(self) -> None:
        super().__init__("sum")
        self.lin = nn.Linear(ROWS, OUT)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.lin(self.propagate(edge_index, x=x))


class Centred(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=0), edge_index)


class TwoHops(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.lin(self.propagate(edge_index, x=self.propagate(edge_index, x=x)))


class Random(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index) + torch.randn(OUT)


class Detached(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x.detach(), edge_index)


class NoGradientOfWeights(Own):
    """Right in its output, wrong in its gradients: a chunk leaves out what other chunks' rows give."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        loops = source == target
        scale = torch.ones_like(self.lin.weight[0, 0]) if loops.any() else self.lin.weight[0, 0] * 0 + 1
        x = x * scale if len(x) < 50 else x * (self.lin.weight[0, 1] - self.lin.weight[0, 1].detach() + 1)
        return super().forward(x, edge_index)


class Raises(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        raise RuntimeError("not\nthis time")


class Cached(Own):
    def __init__(self) -> None:
        super().__init__()
        self.cached, self.kept = True, torch.zeros(0)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        self.kept = self.kept if self.cached and self.kept.numel() else edge_index
        return super().forward(x, self.kept)


class TwoOutputs(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x, x


class NormedSources(Own):
    """Its batch norm sees the rows of all neighbours, and so those at borders of chunks several times."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(ROWS)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(self.norm(x), edge_index)


class NormedTargets(NormedSources):
    def forward(self, x: Tensor | tuple[Tensor, Tensor], edge_index: Tensor) -> Tensor:
        own = x[1] if isinstance(x, tuple) else x
        size = None if isinstance(x, Tensor) else (len(x[0]), len(x[1]))
        return self.lin(self.norm(self.propagate(edge_index, x=x, size=size)) + own)


class OtherName(Own):
    def forward(self, x: Tensor, arcs: Tensor) -> Tensor:
        return super().forward(x, arcs)


class Wants(Own):
    def forward(self, x: Tensor, edge_index: Tensor, tide: Tensor) -> Tensor:
        return super().forward(x, edge_index)


REFUSED: list[tuple[Callable[[], nn.Module], EdgeKinds, str]] = [
    (lambda: pyg.GCNConv(ROWS, OUT), KINDS, r"numbers of edges of their sources.*normalize=False\) in Conv"),
    (lambda: pyg.GCNConv(ROWS, OUT, cached=True), KINDS, r'cached=False, normalize=False\) in .*edges="gcn"'),
    (lambda: pyg.TAGConv(ROWS, OUT, K=2), KINDS, "several hops at once.*list it as several layers"),
    (lambda: pyg.SAGEConv(ROWS, OUT, "lstm"), KINDS, "depends on edges into other nodes"),
    (lambda: pyg.SGConv(ROWS, OUT), KINDS, "depends on edges into other nodes.*use another convolution"),
    (lambda: pyg.LGConv(), KINDS, r'normalize=False\) in Conv.*"gcn"\) is accepted, but computes another'),
    (lambda: pyg.GPSConv(ROWS, pyg.SAGEConv(ROWS, ROWS)), KINDS, "reads the whole graph"),
    (lambda: pyg.DirGNNConv(pyg.SAGEConv(ROWS, OUT)), KINDS, "follows edges backwards"),
    (lambda: pyg.SAGEConv(ROWS, OUT, flow="target_to_source"), KINDS, "follows edges backwards"),
    (lambda: pyg.AntiSymmetricConv(ROWS), KINDS, r"GCNConv\(..., normalize=False\)"),
    (lambda: pyg.PointNetConv(), KINDS, "needs pos"),
    (lambda: pyg.GCN2Conv(ROWS, 0.1), KINDS, "needs x_0.*--model gcnii"),
    (lambda: pyg.HEATConv(ROWS, OUT, 1, 2, 2, 2, 2), KINDS, "needs node_type"),
    (lambda: pyg.HypergraphConv(ROWS, OUT), KINDS, "needs hyperedge_index"),
    (lambda: pyg.SignedConv(ROWS, OUT, True), KINDS, "needs pos_edge_index"),
    (lambda: pyg.SAGEConv(-1, OUT), KINDS, "in_channels=-1"),
    (lambda: pyg.RGCNConv(ROWS, OUT, 3), EdgeKinds(), "edges of this graph have no types"),
    (lambda: pyg.NNConv(ROWS, OUT, nn.Linear(2, ROWS * OUT)), EdgeKinds(), "have no features"),
    (lambda: pyg.NNConv(ROWS, OUT, nn.Linear(2, ROWS * OUT)), EdgeKinds(5), "have 5 features"),
    (lambda: TransformerConv(ROWS, OUT, edge_dim=7), EdgeKinds(5), "have 5 features"),
    (lambda: pyg.WLConv(), KINDS, r"AssertionError: assert \(x.sum"),
    (Centred, KINDS, "no path of edges leads from"),
    (TwoHops, KINDS, "several hops at once"),
    (Random, KINDS, "is random with all dropout"),
    (Detached, KINDS, "has no gradient for its input rows"),
    (NoGradientOfWeights, KINDS, "gradients are not those of the whole graph"),
    (Raises, KINDS, "RuntimeError: not this time"),
    (Cached, KINDS, r"keeps the edges of the first chunk.*; Cached\(..., cached=False\) computes the same"),
    (TwoOutputs, KINDS, "should be one tensor .* and is tuple"),
    (NormedSources, KINDS, "batch norm would count rows of neighbours once for each chunk"),
    (OtherName, KINDS, r"takes \(x, arcs\), not \(x, edge_index"),
    (Wants, KINDS, "forward needs tide; it is given x, edge_index"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kinds", "reason"), REFUSED)
def test_refused(make: Callable[[], nn.Module], kinds: EdgeKinds, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Conv(make(), in_features=ROWS).settle(kinds)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"Conv({type(make()).__name__}): ")


CURED: list[tuple[Callable[[], nn.Module], Normalization]] = [
    (lambda: pyg.GCNConv(ROWS, OUT, normalize=False), "gcn"),
    (lambda: pyg.AntiSymmetricConv(ROWS, pyg.GCNConv(ROWS, ROWS, normalize=False)), "gcn"),
    (lambda: pyg.TAGConv(ROWS, OUT, K=1, normalize=False), "gcn"),
]


@pytest.mark.parametrize(("make", "edges"), CURED)
def test_cures_are_accepted(make: Callable[[], nn.Module], edges: Normalization) -> None:
    assert Conv(make(), edges=edges).settle(KINDS) == "square"


@pytest.mark.parametrize("make", [pyg.GATConv, pyg.GATv2Conv, pyg.FeaStConv])
def test_a_pair_with_loops_of_its_own_is_seen_to_be_wrong(make: Callable[..., nn.Module]) -> None:
    """In pair form these add loops from the i-th row that is read to the i-th own row, without an error."""
    conv = make(ROWS, OUT)
    found = failures(Subject(conv, Call.of(conv), ROWS, KINDS, "none"))
    assert found.keys() == {"pair"}
    assert "output rows of a chunk are not those of the whole graph" in found["pair"].text
    without = make(ROWS, OUT, add_self_loops=False)
    assert Conv(without, edges="loops").settle(KINDS) == "pair"


def test_batch_norm_of_own_rows_is_accepted() -> None:
    assert Conv(NormedTargets()).settle(KINDS) == "pair"
    assert Conv(pyg.GENConv(ROWS, OUT, edge_dim=EDGE_DIM)).settle(KINDS) == "pair"


@pytest.mark.parametrize("norm", [GraphNorm(OUT), LayerNorm(OUT)], ids=["graph", "layer"])
def test_norms_over_the_graph(norm: nn.Module) -> None:
    with pytest.raises(ConfigError, match="norm: what it makes of a row depends on other rows"):
        Conv(pyg.SAGEConv(ROWS, OUT), norm=norm)
    assert Conv(pyg.SAGEConv(ROWS, OUT), norm=LayerNorm(OUT, mode="node")).settle(KINDS) == "pair"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"norm": nn.LayerNorm(OUT + 1)}, "norm can't be run on the 6 columns"),
        ({"norm": "group"}, "norm='group': give it a module, or one of"),
        ({"norm": nn.BatchNorm1d(OUT, track_running_stats=False)}, "track_running_stats"),
        ({"act": lambda rows: rows.sum(dim=0)}, "act can't be run|act turns"),
        ({"act": lambda rows: rows - rows.mean(dim=0)}, "act: what it makes of a row depends"),
        ({"skip": "identity"}, 'the input has 8 columns and the output 6; use skip="linear"'),
        ({"skip": "dense"}, "skip='dense': give it True, False"),
        ({"in_features": 5}, "can't be run on rows of in_features=5 columns"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Conv(pyg.SAGEConv(ROWS, OUT), **arguments)  # type: ignore[arg-type]


def test_no_module() -> None:
    with pytest.raises(ConfigError, match=r"give it a convolution such as SAGEConv"):
        Conv(pyg.SAGEConv)  # type: ignore[arg-type]


def test_widths_that_nothing_tells() -> None:
    with pytest.raises(ConfigError, match=r"no weights that tell .* say in_features="):
        Conv(pyg.SimpleConv())
