"""How alike the rows of all nodes become from layer to layer, in a model that has not been trained yet.

Where nearly all of every row is what all rows share, the loss hardly depends on what tells nodes apart, and
neither does its gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gnnpipe import ops
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.normalize import normalized
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.models import ModelSpec, build_stack


@torch.no_grad()
def shares(graph: Graph, spec: ModelSpec) -> list[float]:
    """Share of the rows' energy that is not their mean's, behind each layer, dropout off.

    Args:
        graph: a graph with dense features.
        spec: the model; its batch norms take the statistics of all rows, as in training.
    """
    matrix = normalized(graph.adjacency, spec.normalization, weighted=graph.weighted)
    found, rows = [], graph.features
    for layer in build_stack(spec):
        module: Layer = layer()
        x, carry = module.message(rows, nn.Identity())
        z = ops.of(torch.device("cpu")).pull(matrix, x) if layer.aggregates else None
        rows = module.update(z, carry, None)
        found.append(differing(rows))
    return found


def differing(rows: Tensor) -> float:
    """``1 - |mean row|^2 / mean |row|^2``: 0 where all rows are equal, 1 where they cancel out."""
    return 1.0 - float(rows.mean(dim=0).square().sum() / rows.square().sum(dim=1).mean())
