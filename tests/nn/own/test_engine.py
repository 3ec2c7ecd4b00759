"""A model of one's own in the engine: the same numbers as torch_geometric's modules on the whole graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphConv

from gnnpipe.config.run import RunConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.nn.models import ModelSpec, build_stack, spec_for
from tests.graphs import dense, random_graph
from tests.harness import Case, Outcome, run_ranks, train
from tests.nn.own.made import written
from tests.reference import mean_loss

LIST = """
from torch_geometric.nn import GraphConv


def layers(num_features, num_classes, hidden=6):
    yield lambda: gnnpipe.nn.Rows(nn.Linear(num_features, hidden), nn.Tanh(), dropout=0.0)
    yield lambda: gnnpipe.nn.Conv(
        GraphConv(hidden, hidden), norm=nn.LayerNorm(hidden), act=nn.ReLU(), skip=True, dropout=0.0
    )
    yield lambda: nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.ELU())
    yield lambda: gnnpipe.nn.Conv(GraphConv(2 * hidden, 4, aggr="max"), dropout=0.0)
    yield lambda: gnnpipe.nn.Rows(nn.Linear(4, num_classes), dropout=0.0)
"""
"""Widths differ from layer to layer, and rows stand between convolutions."""


class OwnCase(Case):
    """A case of a model of one's own."""

    @property
    def spec(self) -> ModelSpec:
        return spec_for(RunConfig(model=self.model), self.data, self.seed)


def case_of(place: str, data: Graph, **changes: object) -> OwnCase:
    return OwnCase(data, place, layers=2, dropout=0.0, **changes)  # type: ignore[arg-type]


class Whole(nn.Module):
    """The same model as anybody writes it with torch_geometric, with the weights of a spec."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width, hidden = spec.num_features, 6
        self.first, self.last = nn.Linear(width, hidden), nn.Linear(4, spec.num_classes)
        self.one, self.two = GraphConv(hidden, hidden), GraphConv(2 * hidden, 4, aggr="max")
        self.norm, self.middle = nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden)
        names = {
            "layers.0.body.0.": self.first, "layers.1.conv.": self.one, "layers.1.norm.": self.norm,
            "layers.2.body.0.0.": self.middle, "layers.3.conv.": self.two, "layers.4.body.0.": self.last,
        }  # fmt: skip
        self.named = names
        state = {
            f"{item.name}.{name}": w for item in build_stack(spec) for name, w in item().state_dict().items()
        }
        for prefix, module in names.items():
            own = {name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)}
            module.load_state_dict(own)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        x = self.first(x).tanh()
        x = self.norm(self.one(x, edge_index, edge_weight) + x).relu()
        x = nn.functional.elu(self.middle(x))
        return self.last(self.two(x, edge_index, edge_weight))

    def gradients(self) -> dict[str, Tensor]:
        return {
            f"{prefix}{name}": weight.grad
            for prefix, module in self.named.items()
            for name, weight in module.named_parameters()
            if weight.grad is not None
        }


def edges_of(adjacency: Csr) -> tuple[Tensor, Tensor]:
    """Edges with their weights; parallel edges are one, of their sum."""
    target = torch.repeat_interleave(torch.arange(adjacency.num_rows), adjacency.rowptr.long().diff())
    edge_index, which = torch.stack([adjacency.col.long(), target]).unique(dim=1, return_inverse=True)
    return edge_index, torch.zeros(edge_index.shape[1]).index_add(0, which, adjacency.value)


@pytest.mark.parametrize("sparse", [False, True])
def test_one_chunk_equals_the_whole_graph(sparse: bool, tmp_path: Path) -> None:
    data = random_graph(40, 160, num_features=7, sparse_features=sparse)
    case = case_of(written(tmp_path, LIST), data, epochs=1)
    found = train(case)
    model = Whole(case.spec)
    x = dense(data.features) if isinstance(data.features, Csr) else data.features
    loss = mean_loss(model(x, *edges_of(data.adjacency)), data)
    loss.backward()
    assert found.losses == pytest.approx([float(loss.detach())], rel=1e-5)
    expected = model.gradients()
    assert found.gradients[0].keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found.gradients[0][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def train_all(rank: int, num_ranks: int, place: str) -> Outcome:
    return train(chunked(place), num_ranks, rank)


def chunked(place: str) -> OwnCase:
    return case_of(place, random_graph(40, 160, num_features=7), chunks=3, epochs=3)


@pytest.mark.slow
def test_stages_equal_one_process_bit_for_bit(tmp_path: Path) -> None:
    place = written(tmp_path, LIST)
    parts, whole = run_ranks(2, train_all, place, folder=tmp_path), train(chunked(place))
    assert [sum(losses) for losses in zip(*(part.losses for part in parts), strict=True)] == whole.losses
    for epoch, expected in enumerate(whole.gradients):
        together = {name: g for part in parts for name, g in part.gradients[epoch].items()}
        assert together.keys() == expected.keys()
        assert all(torch.equal(together[name], gradient) for name, gradient in expected.items())
    assert torch.equal(parts[-1].logits, whole.logits)
