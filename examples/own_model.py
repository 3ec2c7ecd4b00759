"""A model of one's own: GATv2 of torch_geometric, and edge MLPs from scratch, in a pipeline of two stages.

`layers` yields factories of layers. The script trains it on the built-in graph, in two processes, and asks
the run for predictions. From a shell the same is

    gnnpipe train --model examples/own_model.py:layers --layers 4 --stages 2 --chunks 4

    python examples/own_model.py             # 2,000 nodes; a minute on two cores
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv

import gnnpipe


class EdgeMlp(gnnpipe.nn.BlockLayer):
    """``h' = h + sum over edges of MLP([h of the source, h of the target])``."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.in_features = self.out_features = self.width = columns
        self.mlp = nn.Sequential(nn.Linear(2 * columns, columns), nn.ReLU(), nn.Linear(columns, columns))

    def combine(self, referenced: Tensor, own: Tensor, edges: gnnpipe.nn.BlockEdges) -> Tensor:
        source, target = edges.edge_index
        messages = self.mlp(torch.cat([referenced[source], own[target]], dim=1))
        return own + torch.zeros_like(own).index_add(0, target, messages)


def layers(
    num_features: int, num_classes: int, hidden: int = 32, depth: int = 4, heads: int = 4
) -> Iterator[Callable[[], nn.Module]]:
    """Attention and edge MLPs in turn."""
    yield lambda: gnnpipe.nn.Rows(nn.Linear(num_features, hidden), nn.ReLU(), dropout=0.2)
    for index in range(depth):
        if index % 2:
            yield lambda: EdgeMlp(hidden)
            yield lambda: nn.LayerNorm(hidden)
        else:
            yield lambda: gnnpipe.nn.Conv(
                GATv2Conv(hidden, hidden // heads, heads=heads),
                norm=nn.LayerNorm(hidden),
                act=nn.ReLU(),
                skip=True,
                dropout=0.2,
            )
    yield lambda: gnnpipe.nn.Rows(nn.Linear(hidden, num_classes), dropout=0.2)


def main() -> None:
    """Train, and say how good it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num-nodes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=60)
    given = parser.parse_args()
    run = gnnpipe.train(
        model=layers,
        layers=4,
        model_options={"heads": 2},
        stages=2,
        chunks=4,
        epochs=given.epochs,
        synthetic={"num_nodes": given.num_nodes},
    )
    test = run.summary["test_at_best_val"]
    print(f"{run.config.model}: test accuracy {test:.3f}; run in {run.folder}")
    print(f"predictions of {len(run.predict().nodes):,} nodes")


if __name__ == "__main__":  # each process imports this file for `layers`
    main()
