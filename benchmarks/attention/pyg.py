"""Train attention with torch_geometric alone, full-graph, on the rows and edges that ours has, in its order.

python -m benchmarks.attention.pyg --model gat --layers 8

Prints one line of JSON: the seconds of every epoch but the first, and the process's peak memory in bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv

from benchmarks.attention.models import DEGREE, HEADS, HIDDEN, WIDTH
from gnnpipe.comm.world import keep_freed_memory
from gnnpipe.config.run import SyntheticConfig
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.graph.sources.synthetic import planted_partition

CONVOLUTIONS = {"gat": GATConv, "gatv2": GATv2Conv}


class Attention(nn.Module):
    """Convolutions, each behind dropout and in front of a ReLU, and a linear layer."""

    def __init__(self, kind: str, num_features: int, num_classes: int, layers: int) -> None:
        super().__init__()
        widths = [num_features, *[HIDDEN] * (layers - 1)]
        conv = CONVOLUTIONS[kind]
        self.convs = nn.ModuleList(conv(width, WIDTH, HEADS, add_self_loops=False) for width in widths)
        self.last = nn.Linear(HIDDEN, num_classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(F.dropout(x, 0.5, self.training), edge_index).relu()
        return self.last(F.dropout(x, 0.5, self.training))


def graph(num_nodes: int, num_features: int) -> PreparedGraph:
    """The graph as ours prepares it: renumbered, with self loops."""
    data = planted_partition(
        SyntheticConfig(num_nodes=num_nodes, num_features=num_features, avg_degree=DEGREE), split=0
    )
    return prepare(data, CutSpec(1, 1, float(HIDDEN)), "loops")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=CONVOLUTIONS, default="gat")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--num-nodes", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data = graph(options.num_nodes, HIDDEN)
    features, train = data.features, data.masks["train"]
    assert isinstance(features, Tensor)
    rows = torch.repeat_interleave(torch.arange(options.num_nodes), data.matrix.rowptr.long().diff())
    edge_index = torch.stack([data.matrix.col.long(), rows])
    model = Attention(options.model, HIDDEN, data.facts.num_classes, options.layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    seconds = []
    for _ in range(options.epochs):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(features, edge_index)[train], data.labels[train])
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds[1:], "peak_bytes": peak}))


if __name__ == "__main__":
    main()
