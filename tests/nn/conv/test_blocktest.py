"""Block layers of a user's own are tried before a run, as convolutions are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.errors import ConfigError
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import BlockEdges
from gnnpipe.nn.conv.blocktest import check_block_layer
from gnnpipe.nn.conv.sample import EdgeKinds
from gnnpipe.nn.layer import Drop
from gnnpipe.nn.layers.mesh import MeshLayer


class Sums(BlockLayer):
    """Sums of neighbours, to be spoilt."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features = self.width = 5
        self.out_features = 4
        self.lin = nn.Linear(5, 4)

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        source, target = edges.edge_index
        return self.lin(own.index_add(0, target, referenced[source] * edges.weight.unsqueeze(1)))


class Prepared(Sums):
    def prepare(self, h: Tensor, drop: Drop) -> Tensor:
        return torch.tanh(drop(h))


class Drops(Sums):
    draws = True

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        return F.dropout(super().combine(referenced, own, edges), training=self.training)


class Mean(Sums):
    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        return super().combine(referenced, own - own.mean(dim=0), edges)


class Gradient(Sums):
    """Its rows are right. Their gradient leaves out what goes to rows of other chunks."""

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        is_own = (edges.referenced >= edges.start) & (edges.referenced < edges.start + edges.num_targets)
        kept = torch.where(is_own.unsqueeze(1), referenced, referenced.detach())
        return super().combine(kept, own, edges)


class Empty(Sums):
    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        return super().combine(referenced, own, edges) + edges.weight.max() * 0


class Wide(Sums):
    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        return own


class Features(Sums):
    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        return super().combine(referenced, own, edges) + edges.attr.sum()  # type: ignore[union-attr]


class NormedReferenced(Sums):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        return super().combine(self.norm(referenced), own, edges)


@pytest.mark.parametrize(
    "make",
    [Sums, Prepared, Drops, lambda: MeshLayer(5, 2, torch.Generator())],
    ids=["sums", "prepared", "drops", "mesh"],
)
def test_accepted(make: Callable[[], BlockLayer]) -> None:
    before = torch.get_rng_state()
    layer = make()
    after = torch.get_rng_state()
    check_block_layer(layer, EdgeKinds(2), "loops")
    assert torch.equal(after, torch.get_rng_state())
    assert torch.equal(before, after) or layer.training


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Mean, "Mean: its output rows depend on how nodes are grouped"),
        (Gradient, "Gradient: its gradients depend on how nodes are grouped"),
        (Empty, "Empty: it fails on a chunk: "),
        (Wide, r"fails on a small graph: ValueError: combine made \[50, 5\] rows .* out_features is 4"),
        (Features, "fails on a small graph: AttributeError: 'NoneType'"),
        (NormedReferenced, "batch norm would count rows of neighbours once for each chunk"),
    ],
)
def test_refused(make: Callable[[], BlockLayer], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_block_layer(make(), EdgeKinds(), "none")
