"""Full-graph training written as in torch_geometric's documentation, on the built-in graph.

python -m benchmarks.speed.pyg --model gcnii --layers 32 --num-nodes 100000 --epochs 3 [--local] [--cheap]

Prints a JSON list with the seconds of each epoch but the first. The adjacency is normalised once and given as
a `torch.sparse_csr` tensor. Like gnnpipe, it keeps freed memory and asks for huge pages. What no manual
tells, but helps: rows in gnnpipe's order (``--local``), and dropout from raw random bytes (``--cheap``).
"""

from __future__ import annotations

import itertools
import json
import os
import time
import warnings
from collections.abc import Callable
from functools import partial

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GCN2Conv, GCNConv, SAGEConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_torch_csr_tensor

from benchmarks.speed.rival import drop as cheap_dropout
from benchmarks.speed.rival import graph_of, local_graph, parser_of
from gnnpipe.comm.world import keep_freed_memory
from gnnpipe.graph.sources.synthetic import planted_partition


class Model(nn.Module):
    """What both have: dropout, which stays what it is in training."""

    drop: Callable[[Tensor], Tensor] = staticmethod(partial(F.dropout, p=0.5))


class Gcnii(Model):
    """The model of torch_geometric's GCNII example; every layer has weights of its own."""

    def __init__(self, num_features: int, hidden: int, num_classes: int, layers: int) -> None:
        super().__init__()
        self.ends = nn.ModuleList([nn.Linear(num_features, hidden), nn.Linear(hidden, num_classes)])
        self.convs = nn.ModuleList(
            GCN2Conv(hidden, 0.1, 0.5, layer + 1, normalize=False) for layer in range(layers)
        )

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        h = h0 = self.ends[0](self.drop(x)).relu()
        for conv in self.convs:
            h = conv(self.drop(h), h0, adjacency).relu()
        return self.ends[1](self.drop(h))


class Plain(Model):
    """GCN or GraphSAGE."""

    def __init__(self, kind: str, num_features: int, hidden: int, num_classes: int, layers: int) -> None:
        super().__init__()
        sizes = [num_features, *[hidden] * (layers - 1), num_classes]
        pairs = itertools.pairwise(sizes)
        self.convs = nn.ModuleList(
            GCNConv(*pair, normalize=False) if kind == "gcn" else SAGEConv(*pair) for pair in pairs
        )

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        for number, conv in enumerate(self.convs):
            x = conv(self.drop(x), adjacency)
            if number < len(self.convs) - 1:
                x = x.relu()
        return x


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--layout", choices=("csr", "edge_index"), default="csr")
    parser.add_argument("--local", action="store_true", help="rows in the order that gnnpipe gives them")
    parser.add_argument("--cheap", action="store_true", help="dropout from raw random bytes")
    options = parser.parse_args()
    keep_freed_memory()
    warnings.filterwarnings("ignore", message=".*[Ss]parse.*")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    graph = graph_of(options)
    data = planted_partition(graph, split=0)
    # position of each node among the rows, and node of each row
    order = torch.arange(data.num_nodes)
    if options.local:
        order = local_graph(graph, options.model)[0].node_id
    position = torch.empty_like(order)
    position[order] = torch.arange(data.num_nodes)
    rows = torch.repeat_interleave(torch.arange(data.num_nodes), data.adjacency.rowptr.diff().long())
    edge_index = position[torch.stack([data.adjacency.col.long(), rows])]
    value = None
    if options.model != "sage":
        edge_index, value = gcn_norm(edge_index, None, data.num_nodes)
    adjacency = edge_index
    if options.layout == "csr":
        size = (data.num_nodes, data.num_nodes)
        adjacency = to_torch_csr_tensor(edge_index.flip(0), value, size)
    classes = data.num_classes
    model: Model = (
        Gcnii(options.hidden, options.hidden, classes, options.layers)
        if options.model == "gcnii"
        else Plain(options.model, options.hidden, options.hidden, classes, options.layers)
    )
    if options.cheap:
        model.drop = cheap_dropout
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    features, labels, train = data.features[order], data.labels[order], data.masks["train"][order]
    seconds = []
    for _ in range(options.epochs):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(features, adjacency)[train], labels[train])
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds[1:]))


if __name__ == "__main__":
    main()
