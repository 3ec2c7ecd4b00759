"""What gnnpipe does to a graph, edge by edge in float64, without code of the package."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

Edge = tuple[int, int, float]
"""Source, target, weight."""


def edges_of(edge_index: Tensor, edge_weight: Tensor | None) -> list[Edge]:
    weights = [1.0] * edge_index.shape[1] if edge_weight is None else edge_weight.tolist()
    return list(zip(*edge_index.tolist(), weights, strict=True))


def with_reverse(edges: list[Edge]) -> list[Edge]:
    """Without weights every edge counts once, either way. With weights an edge gives its own to its reverse,
    unless the two nodes are joined both ways already."""
    if all(weight == 1.0 for _, _, weight in edges):
        pairs = {(source, target) for source, target, _ in edges}
        return [(*pair, 1.0) for pair in sorted(pairs | {(target, source) for source, target in pairs})]
    there = {(source, target) for source, target, _ in edges}
    return edges + [(t, s, weight) for s, t, weight in edges if (t, s) not in there]


def adjacency(edges: list[Edge], num_nodes: int, *, mean: bool) -> Tensor:
    """The matrix that a model multiplies with, float64 ``[num_nodes, num_nodes]``."""
    A = torch.zeros(num_nodes, num_nodes, dtype=torch.float64)
    if mean:
        count: dict[int, int] = defaultdict(int)
        for source, target, weight in edges:
            A[target, source] += weight
            count[target] += 1
        return A / torch.tensor([[max(count[node], 1)] for node in range(num_nodes)])
    loop = dict.fromkeys(range(num_nodes), 1.0)
    for source, target, weight in edges:
        if source == target:
            loop[source] = weight  # the last one counts
        else:
            A[target, source] += weight
    A += torch.diag(torch.tensor(list(loop.values()), dtype=torch.float64))
    degree = A.sum(dim=1)
    scale = torch.where(degree > 0, degree.clamp(min=1e-300) ** -0.5, 0.0)
    return scale[:, None] * A * scale[None, :]


def degrees(edges: list[Edge], num_nodes: int) -> Tensor:
    """Logarithms of the numbers of edges in and out, one column where they are alike; each scaled."""
    if all(weight == 1.0 for _, _, weight in edges):
        edges = sorted(set(edges))  # parallel edges are one
    counts = torch.zeros(2, num_nodes, dtype=torch.float64)
    for source, target, _ in edges:
        counts[0, target] += 1
        counts[1, source] += 1
    columns = [torch.log(1 + c) for c in (counts[:1] if torch.equal(counts[0], counts[1]) else counts)]
    scaled = [
        torch.ones(num_nodes, dtype=torch.float64)
        if len(set(column.tolist())) == 1
        else (column - column.mean()) / (column - column.mean()).square().mean().sqrt()
        for column in columns
    ]
    return torch.stack(scaled, dim=1)


def normalized(x: Tensor) -> Tensor:
    x = x.double() - x.double().min()
    return torch.stack([row / max(float(row.sum()), 1.0) for row in x])


def standardized(x: Tensor) -> Tensor:
    columns = []
    for column in x.double().T:
        off = column - column.mean()
        constant = len(set(column.tolist())) == 1
        columns.append(torch.zeros_like(off) if constant else off / off.square().mean().sqrt())
    return torch.stack(columns, dim=1)
