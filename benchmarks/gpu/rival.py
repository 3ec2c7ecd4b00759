"""torch_geometric's own layers, trained on a whole graph in the forms that its users can choose.

edges      an edge_index, as the documentation shows; rows are gathered and scattered
csr        its "memory-efficient aggregation": a sparse CSR adjacency, transposed in every backward pass
edgeindex  EdgeIndex, sorted, with its caches filled
cusparse   the strongest form without another package: cuSPARSE in both directions, the transpose kept
recorded   the same with the whole epoch recorded as one CUDA graph
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.nn import GCN2Conv, GCNConv
from torch_geometric.nn.conv import gcn2_conv, gcn_conv
from torch_geometric.utils import spmm

from gnnpipe.graph.csr import Csr

FORMS = ("edges", "csr", "edgeindex", "cusparse", "recorded")
FEATURES, CLASSES, DROPOUT = 128, 41, 0.5


class _BothWays(torch.autograd.Function):
    """Product with the adjacency in both directions: it is symmetric, so that its transpose is itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, adjacency: Tensor) -> Tensor:
        ctx.adjacency = adjacency
        return adjacency @ x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.adjacency @ grads[0].contiguous(), None


class Net(nn.Module):
    """GCNII, ResGCN+ or GCN with the engine's structure, from torch_geometric's layers."""

    def __init__(self, model: str, layers: int, hidden: int) -> None:
        super().__init__()
        self.model = model
        if model == "gcn":
            sizes = [FEATURES, *[hidden] * (layers - 1), CLASSES]
            self.convs = nn.ModuleList(GCNConv(a, b, normalize=False) for a, b in pairwise(sizes))
            return
        self.ends = nn.ModuleList([nn.Linear(FEATURES, hidden), nn.Linear(hidden, CLASSES)])
        if model == "gcnii":
            self.convs = nn.ModuleList(
                GCN2Conv(hidden, 0.1, 0.5, number + 1, normalize=False) for number in range(layers)
            )
        else:
            self.convs = nn.ModuleList(GCNConv(hidden, hidden, normalize=False) for _ in range(layers))
            self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers + 1))

    def forward(self, x: Tensor, *graph: Tensor) -> Tensor:
        if self.model == "gcn":
            for number, conv in enumerate(self.convs):
                x = conv(F.dropout(x, DROPOUT), *graph)
                x = x.relu() if number + 1 < len(self.convs) else x
            return x
        h = self.ends[0](F.dropout(x, DROPOUT))
        if self.model == "gcnii":
            h = h0 = h.relu()
            for conv in self.convs:
                h = conv(F.dropout(h, DROPOUT), h0, *graph).relu()
        else:
            for conv, norm in zip(self.convs, self.norms, strict=False):
                h = h + conv(F.dropout(norm(h).relu(), DROPOUT), *graph)
            h = self.norms[-1](h).relu()
        return self.ends[1](F.dropout(h, DROPOUT))


class Rival:
    """Trains; `step` is one epoch."""

    def __init__(self, form: str, model: str, layers: int, hidden: int, matrix: Csr) -> None:
        device = matrix.value.device
        self._graph = _graph(form, matrix)
        _choose_product(both=form in ("cusparse", "recorded"))
        torch.manual_seed(0)
        self._net = Net(model, layers, hidden).to(device)
        nodes = matrix.num_rows
        self._x = torch.randn(nodes, FEATURES, device=device)
        self._y = torch.randint(CLASSES, (nodes,), device=device)
        self._train = (torch.rand(nodes, device=device) < 0.6).nonzero().squeeze(1)
        cuda = device.type == "cuda"
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=0.005, fused=cuda, capturable=cuda)
        self.step = self._epoch
        if form == "recorded" and cuda:
            self._record()

    def _epoch(self) -> None:
        self._optimizer.zero_grad()
        logits = self._net(self._x, *self._graph)
        F.cross_entropy(logits[self._train], self._y[self._train]).backward()
        self._optimizer.step()

    def _record(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._epoch()
        torch.cuda.current_stream().wait_stream(side)
        self._optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._epoch()
        self.step = graph.replay


def _graph(form: str, matrix: Csr) -> tuple[Tensor, ...]:
    size = (matrix.num_rows, matrix.num_cols)
    if form in ("csr", "cusparse", "recorded"):
        return (
            torch.sparse_csr_tensor(matrix.rowptr, matrix.col, matrix.value, size, check_invariants=False),
        )
    row = torch.repeat_interleave(
        torch.arange(matrix.num_rows, device=matrix.value.device), matrix.rowptr.diff().long()
    )
    edges = torch.stack([matrix.col.long(), row])
    if form == "edgeindex":
        edges = EdgeIndex(edges, sparse_size=size, sort_order="col", is_undirected=True).fill_cache_()
    return edges, matrix.value


def _choose_product(*, both: bool) -> None:
    """Choose the product of the layers' message_and_aggregate with a sparse adjacency."""
    product = (lambda a, x, reduce="sum": _BothWays.apply(x, a)) if both else spmm
    for module in (gcn2_conv, gcn_conv):
        module.spmm = product
