"""Models with norm, residual and jumping knowledge as code, and those that no paper has as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gnnpipe.config.run import HEADS, Norm
from gnnpipe.export.code import LINEAR, LOOPS, Code, Constants, Moved, gcnii_constants
from gnnpipe.nn.models import ModelSpec

NORMS: Mapping[Norm, str] = {"layer": "nn.LayerNorm", "batch": "nn.BatchNorm1d"}
_SELF_LOOPS = "A node without a self loop gets one."


@dataclass(frozen=True)
class Convolution:
    """One convolution of torch_geometric."""

    class_name: str
    """Of the exported class."""
    title: str
    formula: str
    """Of ``conv(x)`` in the docstring."""
    classes: tuple[str, ...]
    """Classes of ``torch_geometric.nn``."""
    build: str
    """Makes one between ``ends``, its numbers of input and output columns."""
    weights: Mapping[str, Moved]
    """Names of its weights inside of a layer, here and there."""
    last: str = ""
    """Makes the one that makes logits, if that differs."""
    call: str = "x, edge_index"
    normalizes: bool = False
    """Whether it multiplies with the edges' weights that ``gcn_norm`` has made."""
    weighs: bool = False
    """Whether weights of edges would have to be read, which it can't."""
    coalesces: bool = False
    """Whether parallel edges are one."""
    helper: str = ""
    """Class that the exported file has to define."""
    constants: Callable[[ModelSpec], Constants] | None = None
    norms: Literal["behind", "in front", "inside"] = "behind"
    """Place of norm and ReLU; inside: the convolution has them, and no ReLU follows."""
    own_residual: bool = False
    """Whether it has a linear residual of its own, so that none is added."""


def _pairs(**names: str) -> dict[str, Moved]:
    """Weights of nn.Linear: ours by the name of its weight, theirs by that of the module."""
    return {ours: Moved(f"{theirs}.weight", transposed=True) for ours, theirs in names.items()}


def _heads(spec: ModelSpec) -> Constants:
    return {"heads": (spec.options.heads or HEADS, "number of attention heads.")}


_GAT_WEIGHTS = {"bias": Moved("bias"), **_pairs(weight="lin")}
_GAT_WEIGHTS |= {name: Moved(name, unsqueezed=True) for name in ("att_src", "att_dst")}
_GATV2_WEIGHTS = {
    "bias": Moved("bias"), "bias_source": Moved("lin_l.bias"), "bias_target": Moved("lin_r.bias"),
    "att": Moved("att", unsqueezed=True), **_pairs(weight_source="lin_l", weight_target="lin_r"),
}  # fmt: skip
_GIN = "nn.Sequential(nn.Linear(*ends), nn.ReLU(), nn.Linear(ends[1], ends[1]))"
_MLP_WEIGHTS = {
    "mlp.bias": Moved("mlp.0.bias"), "mlp.bias_out": Moved("mlp.#last.bias"),
    **_pairs(**{"mlp.weight": "mlp.0", "mlp.weight_out": "mlp.#last"}),
}  # fmt: skip
_MESH = '''\
class MeshConv(MessagePassing):
    """MLPs of edges and of nodes: sums ``MLP([x_j, x_i])`` over the neighbours j."""

    def __init__(self, width: int) -> None:
        super().__init__(aggr="sum")
        self.source, self.target = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.edge = nn.Sequential(nn.ReLU(), nn.Linear(width, width){norm})
        self.node = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width){norm}
        )

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """New rows of the nodes."""
        total = self.propagate(edge_index, source=self.source(x), target=self.target(x))
        total = x.new_zeros(x.shape) + total
        return self.node(torch.cat([x, total], dim=1))

    def message(self, source_j: Tensor, target_i: Tensor) -> Tensor:
        """The row of each edge."""
        return self.edge(source_j + target_i)
'''
_GCN = Convolution(
    "Gcn", "GCN", f"``A x W + b`` with ``A = D^-1/2 (A + I) D^-1/2``. {LOOPS}", ("GCNConv",),
    "GCNConv(*ends, normalize=False)", {"bias": Moved("bias"), **_pairs(weight="lin")},
    call="x, edge_index, edge_weight", normalizes=True,
)  # fmt: skip
CONVOLUTIONS: Mapping[str, Convolution] = {
    "gcn": _GCN,
    "sage": Convolution(
        "Sage", "GraphSAGE", "``x W_root + mean(weight * x of neighbours) W_rel + b``", ("GraphConv",),
        'GraphConv(*ends, aggr="mean")',
        {"bias": Moved("lin_rel.bias"), **_pairs(weight_self="lin_root", weight_neighbour="lin_rel")},
        call="x, edge_index, edge_weight", own_residual=True,
    ),
    "sage-max": Convolution(
        "SageMax", "GraphSAGE (max)", "``x W_r + max(x of neighbours) W_l + b``; weights are not read",
        ("SAGEConv",), 'SAGEConv(*ends, aggr="max")',
        {"bias": Moved("lin_l.bias"), **_pairs(weight_self="lin_r", weight_neighbour="lin_l")},
        own_residual=True,
    ),
    "gin": Convolution(
        "Gin", "GIN", "``MLP((1 + eps) x + sum(x of neighbours))`` (arXiv 1810.00826)", ("GINConv",),
        f"GINConv({_GIN}, train_eps=True)",
        {"eps": Moved("eps"), "bias_inner": Moved("nn.0.bias"), "bias": Moved("nn.2.bias"),
         **_pairs(weight="nn.0", weight_out="nn.2")},
        weighs=True,
    ),
    "gat": Convolution(
        "Gat", "GAT", f"graph attention (arXiv 1710.10903); weights are not read. {_SELF_LOOPS}",
        ("GATConv",), "GATConv(ends[0], ends[1] // heads, heads)", _GAT_WEIGHTS,
        last="GATConv(*ends, heads, concat=False)", coalesces=True, constants=_heads,
    ),
    "gatv2": Convolution(
        "Gatv2", "GATv2", f"graph attention (arXiv 2105.14491); weights are not read. {_SELF_LOOPS}",
        ("GATv2Conv",), "GATv2Conv(ends[0], ends[1] // heads, heads)", _GATV2_WEIGHTS,
        last="GATv2Conv(*ends, heads, concat=False)", coalesces=True, constants=_heads,
    ),
    "gcnii": Convolution(
        "Gcnii", "GCNII", f"initial residual and identity mapping (arXiv 2007.02133). {LOOPS}", ("GCN2Conv",),
        "GCN2Conv(hidden_channels, alpha, theta, layer + 1, normalize=False)", {"weight": Moved("weight1")},
        call="x, x0, edge_index, edge_weight", normalizes=True, constants=gcnii_constants,
    ),
    "resgcn": replace(_GCN, class_name="ResGcn", title="ResGCN+", norms="in front"),
    "gen": Convolution(
        "Gen", "DeeperGCN", "GENConv: softmax aggregation, message norm and an MLP (arXiv 2006.07739)",
        ("GENConv",), "GENConv(*ends, {norm}learn_t=True, msg_norm=True, learn_msg_scale=True, bias=True)",
        {"temperature": Moved("aggr_module.t"), "scale": Moved("msg_norm.scale"), **_MLP_WEIGHTS},
        weighs=True, norms="in front",
    ),
    "mesh": Convolution(
        "Mesh", "Mesh network", "``MLP([x_i, sum_j MLP([x_j, x_i])])`` (arXiv 2010.03409)",
        ("MessagePassing",), "MeshConv(ends[0])",
        {"edge.bias": Moved("source.bias"), "edge.bias_out": Moved("edge.1.bias"),
         "node.bias": Moved("node.0.bias"), "node.bias_out": Moved("node.2.bias"),
         **_pairs(**{"edge.weight": "source", "weight_target": "target", "edge.weight_out": "edge.1",
                     "node.weight": "node.0", "node.weight_out": "node.2"})},
        weighs=True, helper=_MESH, norms="inside",
    ),
}  # fmt: skip
"""Every model's convolution."""


def with_options(spec: ModelSpec) -> Code:
    """The code of a model with its options."""
    conv, norm = CONVOLUTIONS[spec.model], spec.extras.norm
    return Code(
        class_name=conv.class_name,
        title=conv.title,
        about=f"{conv.title} with norm {norm}, residual {spec.extras.residual}, jumping knowledge "
        f"{spec.options.jk}.\n\nA layer is ``{_formula(spec, conv)}``, where conv(x) is {conv.formula}",
        convolutions=conv.classes,
        layers=_layers(spec, conv),
        forward=_forward(spec, conv),
        result="self.lin_out(x)" if spec.has_output else _logits(spec, conv),
        weights=_weights(spec, conv),
        constants=conv.constants or (lambda spec: {}),
        normalizes=conv.normalizes,
        imports="from itertools import pairwise",
        helper=conv.helper.format(norm=_behind(norm)) if conv.helper else "",
        utils=("coalesce",) if conv.coalesces else (),
    )


def _behind(norm: Norm) -> str:
    return "" if norm == "none" else f", {NORMS[norm]}(width)"


def _has_norms(spec: ModelSpec, conv: Convolution) -> bool:
    """Whether norms stand in the layers, and not inside of the convolutions."""
    return spec.extras.norm != "none" and conv.norms != "inside"


def _skips(spec: ModelSpec, conv: Convolution) -> bool:
    """Whether there are linear residuals."""
    return spec.extras.residual == "linear" and not conv.own_residual


def _formula(spec: ModelSpec, conv: Convolution) -> str:
    normed = spec.extras.norm != "none"
    skip = {"none": "", "identity": "x", "linear": "x W_skip"}[spec.extras.residual]
    if conv.norms == "behind":
        inside = f"conv(x){' + ' + skip if skip else ''}"
        return f"relu(norm({inside}))" if normed else f"relu({inside})"
    rows = "x" if conv.norms == "inside" else f"relu({'norm(x)' if normed else 'x'})"
    return f"{skip + ' + ' if skip else ''}conv({rows})"


def _layers(spec: ModelSpec, conv: Convolution) -> str:
    ends, output = spec.architecture.ends is not None, spec.has_output
    first = "hidden_channels" if ends else "in_channels"
    inner = "num_layers" if output else "num_layers - 1"
    widths = f"[{first}, *[hidden_channels] * ({inner}){'' if output else ', out_channels'}]"
    mlp_norm = "" if spec.extras.norm == "batch" else f"norm={_quoted(spec.extras.norm)}, "
    build = conv.build.format(norm=mlp_norm)
    lines = ["self.lin_in = nn.Linear(in_channels, hidden_channels)"] if ends else []
    lines += [f"widths = {widths}", "self.convs = nn.ModuleList(", *_convolutions(build, conv, output=output)]
    if _has_norms(spec, conv):
        number = "num_layers" if output else "num_layers - 1"
        lines += [
            f"self.norms = nn.ModuleList({NORMS[spec.extras.norm]}(hidden_channels) for _ in range({number}))"
        ]
    if _skips(spec, conv):
        lines += [
            "self.skips = nn.ModuleList(",
            "    nn.Linear(*ends, bias=False) for ends in pairwise(widths)",
            ")",
        ]
    if output and conv.norms != "behind" and spec.extras.norm != "none":
        lines += [f"self.norm = {NORMS[spec.extras.norm]}(hidden_channels)"]
    if output:
        lines += ["self.lin_out = nn.Linear(hidden_channels, out_channels)"]
    return "".join(f"{line}\n" for line in lines)


def _convolutions(build: str, conv: Convolution, *, output: bool) -> list[str]:
    """The list of convolutions; the last one differs where it makes the logits."""
    if conv.last and not output:
        first = f"    {build} for ends in pairwise(widths[:-1])"
        return [first, ")", "ends = widths[-2:]", f"self.convs.append({conv.last})"]
    numbered = "layer + 1" in build
    loop = "for layer, ends in enumerate(pairwise(widths))" if numbered else "for ends in pairwise(widths)"
    return [f"    {build}", f"    {loop}", ")"]


def _quoted(norm: Norm) -> str:
    return "None" if norm == "none" else f'"{norm}"'


_DROP = "x = F.dropout(x, self.dropout, self.training)"


def _forward(spec: ModelSpec, conv: Convolution) -> str:
    lines = []
    if conv.weighs:
        lines += [
            "if edge_weight is not None:",
            '    raise ValueError("it was trained without weights of edges")',
        ]
    if conv.coalesces:
        lines += ["edge_index = coalesce(edge_index, num_nodes=len(x))  # parallel edges are one"]
    if spec.architecture.ends is not None:
        relu = ".relu()" if conv.norms == "behind" else ""
        initial = "x0 = " if spec.has_initial else ""
        lines += [_DROP, f"x = {initial}self.lin_in(x){relu}"]
    joins = spec.options.jk != "none"
    lines += ["joined = []"] if joins else []
    lines += [f"for layer, conv in enumerate(self.convs{'' if spec.has_output else '[:-1]'}):"]
    body = _pre_activation(spec, conv) if conv.norms == "in front" else _post(spec, conv)
    lines += [f"    {line}" for line in [*body, *(["joined.append(x)"] if joins else [])]]
    if joins:
        lines += [f"x = torch.stack(joined).{'sum' if spec.options.jk == 'sum' else 'amax'}(dim=0)"]
    if conv.norms != "behind":
        lines += ["x = x.relu()" if spec.extras.norm == "none" else "x = self.norm(x).relu()"]
    return "".join(f"{line}\n" for line in [*lines, _DROP])


def _pre_activation(spec: ModelSpec, conv: Convolution) -> list[str]:
    normed = "self.norms[layer](x)" if _has_norms(spec, conv) else "x"
    skip = {"none": "", "identity": "x + ", "linear": "self.skips[layer](x) + "}[spec.extras.residual]
    call = conv.call.replace("x", "h", 1)
    return [f"h = F.dropout({normed}.relu(), self.dropout, self.training)", f"x = {skip}conv({call})"]


def _post(spec: ModelSpec, conv: Convolution) -> list[str]:
    lines = [_DROP, f"h = conv({conv.call})"]
    if _skips(spec, conv):
        lines.append("h = h + self.skips[layer](x)")
    elif spec.extras.residual == "identity":
        lines.append("h = h + x if h.shape == x.shape else h")
    if conv.norms == "inside":
        return [*lines, "x = h"]
    return [*lines, "x = self.norms[layer](h).relu()" if _has_norms(spec, conv) else "x = h.relu()"]


def _logits(spec: ModelSpec, conv: Convolution) -> str:
    skip = " + self.skips[-1](x)" if _skips(spec, conv) else ""
    return f"self.convs[-1]({conv.call}){skip}"


def _weights(spec: ModelSpec, conv: Convolution) -> dict[str, Moved]:
    norm, last = spec.extras.norm, 3 if spec.extras.norm == "none" else 4
    # the MLP of GENConv is Linear, norm, ReLU, Dropout, Linear
    inside = {
        ours: Moved(f"convs.#.{moved.name.replace('#last', str(last))}", moved.transposed, moved.unsqueezed)
        for ours, moved in conv.weights.items()
    }
    kinds = ["weight", "bias", *(["running_mean", "running_var"] if norm == "batch" else [])]
    if norm != "none":
        inside |= {f"norm.{kind}": Moved(f"norms.#.{kind}") for kind in kinds}
        inside |= {f"mlp.norm.{kind}": Moved(f"convs.#.mlp.1.{kind}") for kind in kinds}
        inside |= {f"edge_norm.{kind}": Moved(f"convs.#.edge.2.{kind}") for kind in kinds}
        inside |= {f"node_norm.{kind}": Moved(f"convs.#.node.3.{kind}") for kind in kinds}
    inside["weight_skip"] = Moved("skips.#.weight", transposed=True)
    # jumping knowledge, and norms around attention, are layers around the convolution
    prefixes = ("", "conv.", "conv.conv.")
    found = {f"layers.#.{prefix}{ours}": moved for prefix in prefixes for ours, moved in inside.items()}
    return found | LINEAR | {f"output.norm.{kind}": Moved(f"norm.{kind}") for kind in kinds}
