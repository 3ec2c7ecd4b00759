"""Every model with norm, residual and jumping knowledge, from torch_geometric's and PyTorch's own modules.

A reference that shares no code with the package. Weights have the package's names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch_geometric.nn import (
    GATConv,
    GATv2Conv,
    GCN2Conv,
    GCNConv,
    GENConv,
    GINConv,
    JumpingKnowledge,
    MessagePassing,
    SAGEConv,
)
from torch_geometric.nn.models.rev_gnn import GroupAddRev

from gnnpipe.nn.models import ModelSpec

Weights = Mapping[str, Tensor]


class MeshConv(MessagePassing):
    """``MLP([x_i, sum_j MLP([x_j, x_i, e_ij])])`` with LayerNorm or BatchNorm behind both."""

    def __init__(self, hidden: int, edge_dim: int, norm: str) -> None:
        super().__init__(aggr="sum")
        self.edge = nn.Sequential(
            nn.Linear(2 * hidden + edge_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            _norm(norm, hidden),
        )
        self.node = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), _norm(norm, hidden)
        )

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        total = self.propagate(edge_index, x=x, edge_attr=edge_attr)
        out: Tensor = self.node(torch.cat([x, total], dim=1))
        return out

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor | None) -> Tensor:
        sent = [x_j, x_i] if edge_attr is None else [x_j, x_i, edge_attr]
        out: Tensor = self.edge(torch.cat(sent, dim=1))
        return out


def logits(spec: ModelSpec, w: Weights, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None) -> Tensor:
    """Logits ``[nodes, classes]`` in training mode, without dropout."""
    model = _Model(spec, w, edge_index, edge_attr)
    return model.with_residual_blocks(x) if spec.model in ("resgcn", "gen", "mesh") else model.plain(x)


class _Added(nn.Module):
    """What a layer of a reversible block adds."""

    def __init__(self, model: _Model, i: int) -> None:
        super().__init__()
        self.model, self.i = model, i

    def forward(self, y: Tensor, edge_index: Tensor) -> Tensor:
        return self.model.conv(self.i, self.model.norm(f"layers.{self.i}.norm", y).relu(), y)


class _Model:
    def __init__(self, spec: ModelSpec, w: Weights, edge_index: Tensor, edge_attr: Tensor | None) -> None:
        self.spec, self.edges, self.attr, self.extras = spec, edge_index, edge_attr, spec.extras
        jk = spec.options.jk
        # names of a convolution inside of jumping knowledge, or of a reversible block, have steps more
        self.w = {re.sub(r"(\.conv|\.inner)+\.", ".", name): weight for name, weight in w.items()}
        self.joined: list[Tensor] = []
        self.jk = jk

    def plain(self, x: Tensor) -> Tensor:
        """``act(norm(conv(x) + skip(x)))``."""
        spec, ends = self.spec, "input.weight" in self.w
        h = h0 = (x @ self.w["input.weight"] + self.w["input.bias"]).relu() if ends else x
        has_output = "output.weight" in self.w
        for i in range(spec.layers):
            logits = i == spec.layers - 1 and not has_output
            out = self.conv(i, h, h0)
            if f"layers.{i}.weight_skip" in self.w:
                out = out + h @ self.w[f"layers.{i}.weight_skip"]
            elif self.extras.residual == "identity" and out.shape == h.shape and not logits:
                out = out + h
            h = out if logits else self.norm(f"layers.{i}.norm", out).relu()
            self.joined.append(h)
        return self.output(self.jumped()) if has_output else h

    def with_residual_blocks(self, x: Tensor) -> Tensor:
        """``skip(h) + conv(relu(norm(h)))``, or for mesh models ``skip(h) + norm(conv(h))``."""
        h = x @ self.w["input.weight"] + self.w["input.bias"]
        groups = self.spec.options.groups
        if groups > 1:
            for i in range(0, self.spec.layers, groups):
                inner = nn.ModuleList(_Added(self, i + group) for group in range(groups))
                h = GroupAddRev(inner, disable=True)(h, self.edges)
            return self.output(self.norm("output.norm", h).relu())
        for i in range(self.spec.layers):
            mesh = self.spec.model == "mesh"
            out = self.conv(i, h if mesh else self.norm(f"layers.{i}.norm", h).relu(), h)
            if self.extras.residual == "linear":
                out = out + h @ self.w[f"layers.{i}.weight_skip"]
            h = h + out if self.extras.residual == "identity" else out
            self.joined.append(h)
        return self.output(self.norm("output.norm", self.jumped()).relu())

    def jumped(self) -> Tensor:
        if self.jk == "none":
            return self.joined[-1]
        if self.jk == "max":
            found: Tensor = JumpingKnowledge("max")(self.joined)
            return found
        return torch.stack(self.joined).sum(dim=0)

    def output(self, h: Tensor) -> Tensor:
        return h @ self.w["output.weight"] + self.w["output.bias"]

    def norm(self, name: str, h: Tensor) -> Tensor:
        module = _norm(self.extras.norm, h.shape[1])
        weights = self.of(name, {"weight": "weight", "bias": "bias"}) if self.extras.norm != "none" else {}
        out: Tensor = functional_call(module, weights, (h,))
        return out

    def of(self, prefix: str, names: Mapping[str, str]) -> dict[str, Tensor]:
        """Weights by the names that a module of torch_geometric has; those of nn.Linear are transposed."""
        result = {}
        for name, ours in names.items():
            weight = self.w[f"{prefix}.{ours}"]
            result[name] = weight.T if weight.dim() == 2 else weight
        return result

    def conv(self, i: int, h: Tensor, h0: Tensor) -> Tensor:
        build = {
            "gcn": self._gcn, "resgcn": self._gcn, "sage": self._sage, "sage-max": self._sage,
            "gin": self._gin, "gat": self._gat, "gatv2": self._gatv2, "gen": self._gen, "mesh": self._mesh,
        }  # fmt: skip
        layer = f"layers.{i}"
        if self.spec.model == "gcnii":
            module: nn.Module = GCN2Conv(h.shape[1], 0.1, 0.5, layer=i + 1)
            out: Tensor = functional_call(module, {"weight1": self.w[f"{layer}.weight"]}, (h, h0, self.edges))
            return out
        module, weights, arguments = build[self.spec.model](layer, h.shape[1])
        return self.called(module, weights, h, *arguments)

    def called(self, module: nn.Module, weights: dict[str, Tensor], h: Tensor, *others: Tensor) -> Tensor:
        out: Tensor = functional_call(module, weights, (h, self.edges, *others))
        return out

    def _gcn(self, layer: str, columns: int) -> tuple[nn.Module, dict[str, Tensor], tuple[Tensor, ...]]:
        outputs = self.w[f"{layer}.bias"].numel()
        return GCNConv(columns, outputs), self.of(layer, {"lin.weight": "weight", "bias": "bias"}), ()

    def _sage(self, layer: str, columns: int) -> tuple[nn.Module, dict[str, Tensor], tuple[Tensor, ...]]:
        aggr = "max" if self.spec.model == "sage-max" else "mean"
        names = {"lin_l.weight": "weight_neighbour", "lin_l.bias": "bias", "lin_r.weight": "weight_self"}
        return SAGEConv(columns, self.w[f"{layer}.bias"].numel(), aggr=aggr), self.of(layer, names), ()

    def _gin(self, layer: str, columns: int) -> tuple[nn.Module, dict[str, Tensor], tuple[Tensor, ...]]:
        outputs = self.w[f"{layer}.bias"].numel()
        mlp = nn.Sequential(nn.Linear(columns, outputs), nn.ReLU(), nn.Linear(outputs, outputs))
        names = {
            "nn.0.weight": "weight", "nn.0.bias": "bias_inner", "nn.2.weight": "weight_out",
            "nn.2.bias": "bias", "eps": "eps",
        }  # fmt: skip
        return GINConv(mlp, train_eps=True), self.of(layer, names), ()

    def _gat(self, layer: str, columns: int) -> tuple[nn.Module, dict[str, Tensor], tuple[Tensor, ...]]:
        heads, width = self.w[f"{layer}.att_src"].shape
        edge_dim = self.spec.edge_dim or None
        module = GATConv(columns, width, heads, concat=self.concat(layer), edge_dim=edge_dim)
        names = {"lin.weight": "weight", "bias": "bias"}
        if self.spec.edge_dim:
            names["lin_edge.weight"] = "weight_edge"
        weights = self.of(layer, names)
        for name in ("att_src", "att_dst", *(["att_edge"] if self.spec.edge_dim else [])):
            weights[name] = self.w[f"{layer}.{name}"].unsqueeze(0)
        return module, weights, () if self.attr is None else (self.attr,)

    def _gatv2(self, layer: str, columns: int) -> tuple[nn.Module, dict[str, Tensor], tuple[Tensor, ...]]:
        heads, width = self.w[f"{layer}.att"].shape
        edge_dim = self.spec.edge_dim or None
        module = GATv2Conv(columns, width, heads, concat=self.concat(layer), edge_dim=edge_dim)
        names = {
            "lin_l.weight": "weight_source", "lin_l.bias": "bias_source", "lin_r.weight": "weight_target",
            "lin_r.bias": "bias_target", "bias": "bias",
        }  # fmt: skip
        if edge_dim:
            names["lin_edge.weight"] = "weight_edge"
        weights = self.of(layer, names) | {"att": self.w[f"{layer}.att"].unsqueeze(0)}
        return module, weights, () if self.attr is None else (self.attr,)

    def concat(self, layer: str) -> bool:
        """Whether heads stand side by side; those of logits are averaged."""
        return layer != f"layers.{self.spec.layers - 1}" or "output.weight" in self.w

    def _gen(self, layer: str, columns: int) -> tuple[nn.Module, dict[str, Tensor], tuple[Tensor, ...]]:
        norm, edge_dim = self.extras.norm, self.spec.edge_dim
        module = GENConv(
            columns, columns, learn_t=True, msg_norm=True, learn_msg_scale=True, bias=True,
            norm=None if norm == "none" else norm, edge_dim=edge_dim or None,  # type: ignore[arg-type]
        )  # fmt: skip
        last = len(module.mlp) - 1
        names = {
            "aggr_module.t": "temperature", "msg_norm.scale": "scale",
            "mlp.0.weight": "mlp.weight", "mlp.0.bias": "mlp.bias",
            f"mlp.{last}.weight": "mlp.weight_out", f"mlp.{last}.bias": "mlp.bias_out",
        }  # fmt: skip
        if norm != "none":
            names |= {"mlp.1.weight": "mlp.norm.weight", "mlp.1.bias": "mlp.norm.bias"}
        if edge_dim:
            names |= {"lin_edge.weight": "weight_edge", "lin_edge.bias": "bias_edge"}
        return module, self.of(layer, names), () if self.attr is None else (self.attr,)

    def _mesh(self, layer: str, columns: int) -> tuple[nn.Module, dict[str, Tensor], tuple[Tensor, ...]]:
        norm = self.extras.norm
        module = MeshConv(columns, self.spec.edge_dim, norm)
        names = {}
        for mlp in ("edge", "node"):
            names |= {f"{mlp}.0.weight": f"{mlp}.weight", f"{mlp}.0.bias": f"{mlp}.bias"}
            names |= {f"{mlp}.2.weight": f"{mlp}.weight_out", f"{mlp}.2.bias": f"{mlp}.bias_out"}
            if norm != "none":
                names |= {f"{mlp}.3.{kind}": f"{mlp}_norm.{kind}" for kind in ("weight", "bias")}
        weights = self.of(layer, names)
        first = [self.w[f"{layer}.edge.weight"], self.w[f"{layer}.weight_target"]]
        if self.spec.edge_dim:
            first.append(self.w[f"{layer}.weight_edge"])
        weights["edge.0.weight"] = torch.cat(first).T
        return module, weights, () if self.attr is None else (self.attr,)


def _mlp(columns: int, hidden: int, norm: str) -> nn.Sequential:
    both = nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, hidden)
    return nn.Sequential(*both, _norm(norm, hidden))


def _norm(kind: str, columns: int) -> nn.Module:
    kinds = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
    return nn.Identity() if kind == "none" else kinds[kind](columns)
