"""The models built from torch_geometric's own layers: a reference that shares no code with the package.

Weights have the package's names. Everything else is PyG's, normalisation included.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch_geometric.nn import DeepGCNLayer, GCN2Conv, GCNConv, GraphConv, LayerNorm, SAGEConv

ALPHA, THETA = 0.1, 0.5


def pyg_logits(
    model: str,
    layers: int,
    w: Mapping[str, Tensor],
    X: Tensor,
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
) -> Tensor:
    """Logits ``[nodes, classes]`` without dropout; ``edge_index`` has sources in its first row."""
    # SAGEConv takes no weights; with weights, GraphConv is the same layer
    sage = _sage if edge_weight is None else _weighted_sage
    edges = (edge_index,) if edge_weight is None else (edge_index, edge_weight)
    if model in ("gcn", "sage"):
        h = X
        for i in range(layers):
            conv, weights = (_gcn if model == "gcn" else sage)(w, f"layers.{i}")
            h = functional_call(conv, weights, (h, *edges))
            h = h.relu() if i < layers - 1 else h
        return h
    h = X @ w["input.weight"] + w["input.bias"]
    if model == "gcnii":
        h = h0 = h.relu()
        for i in range(layers):
            conv = GCN2Conv(h.shape[1], ALPHA, THETA, layer=i + 1)
            h = functional_call(conv, {"weight1": w[f"layers.{i}.weight"]}, (h, h0, *edges)).relu()
    else:
        for i in range(layers):
            conv, weights = _gcn(w, f"layers.{i}")
            block = DeepGCNLayer(conv, _norm(h.shape[1]), nn.ReLU(), block="res+")
            weights = {f"conv.{name}": weight for name, weight in weights.items()}
            weights |= {f"norm.{name}": w[f"layers.{i}.norm.{name}"] for name in ("weight", "bias")}
            h = functional_call(block, weights, (h, *edges))
        weights = {name: w[f"output.norm.{name}"] for name in ("weight", "bias")}
        h = functional_call(_norm(h.shape[1]), weights, (h,)).relu()
    return h @ w["output.weight"] + w["output.bias"]


def pyg_loss(logits: Tensor, labels: Tensor, train_mask: Tensor) -> Tensor:
    """Mean over the training nodes."""
    return F.cross_entropy(logits[train_mask], labels[train_mask])


def edges(adjacency: Tensor) -> Tensor:
    """``edge_index`` of a dense adjacency whose rows are the targets, sources first."""
    return adjacency.nonzero().T.flip(0).contiguous()


def _gcn(w: Mapping[str, Tensor], layer: str) -> tuple[nn.Module, dict[str, Tensor]]:
    weight = w[f"{layer}.weight"]
    return GCNConv(*weight.shape), {"lin.weight": weight.T, "bias": w[f"{layer}.bias"]}


def _sage(w: Mapping[str, Tensor], layer: str) -> tuple[nn.Module, dict[str, Tensor]]:
    own, neighbours = w[f"{layer}.weight_self"], w[f"{layer}.weight_neighbour"]
    weights = {"lin_l.weight": neighbours.T, "lin_l.bias": w[f"{layer}.bias"], "lin_r.weight": own.T}
    return SAGEConv(*own.shape, aggr="mean"), weights


def _weighted_sage(w: Mapping[str, Tensor], layer: str) -> tuple[nn.Module, dict[str, Tensor]]:
    own, neighbours = w[f"{layer}.weight_self"], w[f"{layer}.weight_neighbour"]
    weights = {"lin_rel.weight": neighbours.T, "lin_rel.bias": w[f"{layer}.bias"], "lin_root.weight": own.T}
    return GraphConv(*own.shape, aggr="mean"), weights


def _norm(width: int) -> nn.Module:
    return LayerNorm(width, mode="node")


def leaves(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the weights as leaves, to differentiate with respect to."""
    return {name: torch.nn.Parameter(weight.detach().clone()) for name, weight in weights.items()}
