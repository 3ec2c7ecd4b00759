"""How each model is written with torch_geometric's layers, and where its weights go."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from gnnpipe.export.code import LINEAR, LOOPS, Code, Moved, gcnii_constants
from gnnpipe.export.options import with_options
from gnnpipe.nn.models import ModelSpec, Options

_PLAIN_FORWARD = """\
for conv in self.convs[:-1]:
    x = F.dropout(x, self.dropout, self.training)
    x = conv(x, edge_index, edge_weight).relu()
x = F.dropout(x, self.dropout, self.training)
"""
_PLAIN_RESULT = "self.convs[-1](x, edge_index, edge_weight)"


CODE: Mapping[str, Code] = {
    "gcn": Code(
        class_name="Gcn",
        title="GCN",
        about=f"""\
Graph convolutions of Kipf and Welling (arXiv 1609.02907).

A layer is ``relu(A x W + b)`` with ``A = D^-1/2 (A + I) D^-1/2``; the last one has no ReLU. {LOOPS}""",
        convolutions=("GCNConv",),
        layers="""\
widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
self.convs = nn.ModuleList(
    GCNConv(*ends, normalize=False) for ends in pairwise(widths)
)
""",
        forward=_PLAIN_FORWARD,
        result=_PLAIN_RESULT,
        weights={
            "layers.#.weight": Moved("convs.#.lin.weight", transposed=True),
            "layers.#.bias": Moved("convs.#.bias"),
        },
        imports="from itertools import pairwise",
    ),
    "sage": Code(
        class_name="Sage",
        title="GraphSAGE",
        about="""\
GraphSAGE with the mean of the neighbours (arXiv 1706.02216).

A layer is ``relu(x W_root + mean(weight * x of neighbours) W_rel + b)``; the last one has no ReLU. The mean \
divides by the number of edges, whatever they weigh. ``GraphConv`` is ``SAGEConv`` that also takes weights. \
Self loops are edges like any other, and none is added.""",
        convolutions=("GraphConv",),
        layers="""\
widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
self.convs = nn.ModuleList(
    GraphConv(*ends, aggr="mean") for ends in pairwise(widths)
)
""",
        forward=_PLAIN_FORWARD,
        result=_PLAIN_RESULT,
        weights={
            "layers.#.weight_self": Moved("convs.#.lin_root.weight", transposed=True),
            "layers.#.weight_neighbour": Moved("convs.#.lin_rel.weight", transposed=True),
            "layers.#.bias": Moved("convs.#.lin_rel.bias"),
        },
        normalizes=False,
        imports="from itertools import pairwise",
    ),
    "gcnii": Code(
        class_name="Gcnii",
        title="GCNII",
        about=f"""\
GCNII: initial residual and identity mapping (arXiv 2007.02133).

Layer l is ``relu(s ((1 - beta) I + beta W))`` with ``s = (1 - alpha) A x + alpha x0``, where x0 are the \
rows in front of the first one, ``beta = log(theta / l + 1)`` and ``A = D^-1/2 (A + I) D^-1/2``. {LOOPS}""",
        convolutions=("GCN2Conv",),
        layers="""\
self.lin_in = nn.Linear(in_channels, hidden_channels)
self.convs = nn.ModuleList(
    GCN2Conv(hidden_channels, alpha, theta, layer, normalize=False)
    for layer in range(1, num_layers + 1)
)
self.lin_out = nn.Linear(hidden_channels, out_channels)
""",
        forward="""\
x = F.dropout(x, self.dropout, self.training)
x = x0 = self.lin_in(x).relu()
for conv in self.convs:
    x = F.dropout(x, self.dropout, self.training)
    x = conv(x, x0, edge_index, edge_weight).relu()
x = F.dropout(x, self.dropout, self.training)
""",
        result="self.lin_out(x)",
        weights={"layers.#.weight": Moved("convs.#.weight1"), **LINEAR},
        constants=gcnii_constants,
    ),
    "resgcn": Code(
        class_name="ResGcn",
        title="ResGCN+",
        about=f"""\
ResGCN+: residual blocks with pre-activation (arXiv 2006.07739).

A block is ``x + A relu(norm(x)) W + b`` with LayerNorm and ``A = D^-1/2 (A + I) D^-1/2``. {LOOPS}""",
        convolutions=("DeepGCNLayer", "GCNConv"),
        layers="""\
self.lin_in = nn.Linear(in_channels, hidden_channels)
self.blocks = nn.ModuleList(
    DeepGCNLayer(
        GCNConv(hidden_channels, hidden_channels, normalize=False),
        nn.LayerNorm(hidden_channels),
        nn.ReLU(),
        block="res+",
        dropout=dropout,
    )
    for _ in range(num_layers)
)
self.norm = nn.LayerNorm(hidden_channels)
self.lin_out = nn.Linear(hidden_channels, out_channels)
""",
        forward="""\
x = F.dropout(x, self.dropout, self.training)
x = self.lin_in(x)
for block in self.blocks:
    x = block(x, edge_index, edge_weight)
x = self.norm(x).relu()
x = F.dropout(x, self.dropout, self.training)
""",
        result="self.lin_out(x)",
        weights={
            "layers.#.weight": Moved("blocks.#.conv.lin.weight", transposed=True),
            "layers.#.bias": Moved("blocks.#.conv.bias"),
            "layers.#.norm.weight": Moved("blocks.#.norm.weight"),
            "layers.#.norm.bias": Moved("blocks.#.norm.bias"),
            "output.norm.weight": Moved("norm.weight"),
            "output.norm.bias": Moved("norm.bias"),
            **LINEAR,
        },
    ),
}


def code_of(spec: ModelSpec) -> Code:
    """The code of a model: the one that its paper has, or one with options."""
    plain = spec.options in (Options(), Options(spec.extras.norm, spec.extras.residual))
    own = spec.architecture.extras == spec.extras
    return CODE[spec.model] if plain and own and spec.model in CODE else with_options(spec)


def moved(code: Code, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that the exported module has for them, each in memory of its own."""
    result = {}
    for name, weight in weights.items():
        number = re.match(r"layers\.(\d+)\.", name)
        place = code.weights[name.replace(number[1], "#", 1) if number else name]
        to = place.name.replace("#", number[1]) if number else place.name
        weight = weight.t() if place.transposed else weight
        weight = weight.unsqueeze(0) if place.unsqueezed else weight
        result[to] = weight.clone(memory_format=torch.contiguous_format)
    return result
