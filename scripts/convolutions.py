"""Try every class of torch_geometric.nn.conv in `Conv`: ``python scripts/convolutions.py [CLASS ...]``.

Prints a line a class, as docs/layers.md shows them: accepted, in which form and with which arguments, or
refused and why. What is accepted is compared with the plain torch_geometric module on a whole graph of 150
nodes with weights, features and types of edges, self loops, parallel edges and nodes without edges: outputs
and the gradients of input rows and weights, from seven chunks of unequal sizes, to 1e-9 in float64.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_geometric
from torch import Tensor, nn
from torch_geometric.nn import MLP, SAGEConv
from torch_geometric.nn import conv as convolutions
from torch_geometric.nn.conv import spline_conv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_remaining_self_loops

from gnnpipe.errors import ConfigError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.conv import Conv
from gnnpipe.nn.conv.call import Call, Refused
from gnnpipe.nn.conv.sample import EdgeKinds

NUM_NODES, NUM_EDGES = 150, 700
CHUNKS = (0, 3, 40, 41, 90, 110, 149, 150)
ROWS, OUT, EDGE_DIM, NUM_TYPES = 8, 6, 3, 4
LARGEST_DIFFERENCE = 1e-9
KINDS = EdgeKinds(EDGE_DIM, NUM_TYPES)

# Arguments by name; where there are several, the first with which the class runs.
ARGUMENTS: dict[str, list[Callable[[], Any]]] = {
    "in_channels": [lambda: ROWS],
    "out_channels": [lambda: OUT, lambda: ROWS],
    "channels": [lambda: ROWS],
    "K": [lambda: 1, lambda: 2],
    "num_layers": [lambda: 1],
    "powers": [lambda: [0, 1]],
    "dim": [lambda: EDGE_DIM, lambda: 1],
    "edge_dim": [lambda: EDGE_DIM],
    "in_edge_channels": [lambda: EDGE_DIM],
    "num_relations": [lambda: NUM_TYPES],
    "kernel_size": [lambda: 3],
    "nn": [
        lambda: nn.Linear(ROWS, OUT),
        lambda: nn.Linear(2 * ROWS, OUT),
        lambda: nn.Linear(EDGE_DIM, ROWS * OUT),
    ],
    "aggregators": [lambda: ["mean", "max", "std"]],
    "scalers": [lambda: ["identity", "amplification"]],
    "deg": [lambda: torch.tensor([5, 20, 30, 20, 10, 5])],
    "alpha": [lambda: 0.3],
    "heads": [lambda: 2],
    "num_heads": [lambda: 2],
    "phi": [lambda: SAGEConv(ROWS, ROWS)],
    "conv": [lambda: SAGEConv(ROWS, ROWS)],
    "mlp_h": [lambda: MLP([ROWS, 3])],
    "mlp_f": [lambda: MLP([ROWS + 3, ROWS])],
    "mlp_g": [lambda: MLP([ROWS, ROWS])],
    "max_degree": [lambda: 5],
    "filter_size": [lambda: 1],
    "hidden_channels": [lambda: ROWS],
    "first_aggr": [lambda: True],
    "metadata": [lambda: (["node"], [("node", "to", "node")])],
    "convs": [lambda: {("node", "to", "node"): SAGEConv(ROWS, ROWS)}],
    "num_node_types": [lambda: 1],
    "num_edge_types": [lambda: NUM_TYPES],
    "edge_type_emb_dim": [lambda: 2],
    "edge_attr_emb_dim": [lambda: 2],
    "space_dimensions": [lambda: 2],
    "propagate_dimensions": [lambda: ROWS],
    "k": [lambda: 3],
}
# Arguments that are given although they have defaults: edges shall have features and types.
EDGES = ("edge_dim", "in_edge_channels", "num_relations", "dim", "heads", "num_heads")
# The same in a second try: one hop, and nothing that divides by numbers of edges.
ONE_HOP = ("K", "powers", "aggregators", "phi")


@dataclass(frozen=True)
class Way:
    """A way to build a class."""

    given: tuple[str, ...]
    """Arguments that have defaults, and are given one of `ARGUMENTS`."""
    off: tuple[str, ...]
    """Settings to be set to False."""
    edges: Normalization
    """The adjacency that makes up for them."""


WAYS = tuple(
    Way(given, off, edges)
    for given in (EDGES, (*EDGES, *ONE_HOP))
    for off, edges in (
        ((), "none"),
        (("add_self_loops",), "loops"),
        (("normalize",), "gcn"),
        (("normalize", "add_self_loops"), "gcn"),
    )
)
NEEDS_CUDA = "pylibcugraphops"


@dataclass(frozen=True)
class Graph:
    """A graph; edges are sorted by target."""

    edge_index: Tensor
    weight: Tensor
    attr: Tensor
    type: Tensor

    @property
    def edges(self) -> Edges:
        """The edges as layers of the package read them."""
        rowptr = torch.zeros(NUM_NODES + 1, dtype=torch.int64)
        rowptr[1:] = torch.bincount(self.edge_index[1], minlength=NUM_NODES).cumsum(0)
        matrix = Csr(rowptr, self.edge_index[0], self.weight, NUM_NODES)
        return Edges(matrix, 0, self.attr, self.type)


@dataclass(frozen=True)
class Verdict:
    """What has become of a class."""

    name: str
    form: str
    """``pair``, ``square``, ``refused``, or ``not tried``."""
    settings: str = ""
    """Arguments with which it was built, and the adjacency; empty where the defaults do."""
    text: str = ""
    """Why it is right, or why it was refused."""


def main() -> None:
    """Print the table, and the numbers of classes in each form."""
    provide_splines()
    names = sys.argv[1:] or [name for name in convolutions.__all__ if name != "MessagePassing"]
    print("\n".join(table([verdict(name) for name in names])))


def table(verdicts: list[Verdict]) -> Iterator[str]:
    """Lines of Markdown."""
    counts = Counter(found.form for found in verdicts)
    total = ", ".join(f"{counts[form]} {form}" for form in ("pair", "square", "refused", "not tried"))
    yield f"torch_geometric {torch_geometric.__version__}, {len(verdicts)} classes: {total}."
    yield ""
    yield "| class | form | built with | why |"
    yield "|---|---|---|---|"
    for found in verdicts:
        yield f"| {found.name} | {found.form} | {found.settings} | {found.text} |"


def verdict(name: str) -> Verdict:
    """Try a class in each of the `WAYS` that it has."""
    kind = getattr(convolutions, name)
    try:
        Call.of(_empty(kind))
    except Refused as error:
        return Verdict(name, "refused", text=str(error))
    refusals: list[str] = []
    accepted: list[Verdict] = []
    for way in _ways(kind):
        try:
            accepted.append(_accepted(kind, way))
        except ImportError as error:
            return Verdict(name, "not tried", text=_absent(name, error))
        except ConfigError as error:
            refusals.append(_bare(str(error)))
        if accepted and accepted[-1].form == "pair":
            break
    if not accepted:
        return Verdict(name, "refused", text=refusals[0])
    found = accepted[0]
    if refusals and found.settings:
        return replace(found, text=f"{found.text}; by default: {refusals[0]}")
    if found.form != accepted[-1].form:
        faster = accepted[-1]
        return replace(found, text=f"{found.text}; {faster.settings}: {faster.form}, {faster.text}")
    return found


def _ways(kind: type[nn.Module]) -> Iterator[Way]:
    """The ways that a class has, each once."""
    names = set(_parameters(kind))
    for way in WAYS:
        more = set(way.given) & names - set(EDGES)
        if set(way.off) <= names and (more or way.given == EDGES):
            yield way


def _accepted(kind: type[nn.Module], way: Way) -> Verdict:
    """Wrap a class, and compare; raises ConfigError if it is refused."""
    conv, given = _built(kind, way)
    layer = Conv(conv, in_features=ROWS, edges=way.edges)
    form = layer.settle(KINDS)
    raw = random_graph()
    graph = prepared(raw, way.edges)
    same, against = False, "the module"
    if way.off:  # the class without those settings, with the same weights, on the graph as it is
        plain = kind(**{name: value for name, value in given.items() if name not in way.off})
        plain.load_state_dict(conv.state_dict())
        same = difference(layer, plain, graph, raw) < LARGEST_DIFFERENCE
        against = "the module without these settings" if same else "the module with these settings"
    if not same:
        found = difference(layer, conv, graph, graph)
        if not found < LARGEST_DIFFERENCE:
            raise AssertionError(f"{kind.__name__} is accepted, and is off by {found:.1e}")
    return Verdict(kind.__name__, form, _written(kind, given, way), f"equals {against}")


def difference(layer: Conv, plain: nn.Module, graph: Graph, whole: Graph) -> float:
    """Largest difference in outputs and gradients, as a share of the largest number, in chunks and whole.

    Args:
        layer: the layer, run chunk by chunk on ``graph``.
        plain: the module of torch_geometric, run on ``whole``.
    """
    torch.manual_seed(1)
    rows = torch.randn(NUM_NODES, ROWS, dtype=torch.float64)
    direction = torch.randn(NUM_NODES, layer.out_features, dtype=torch.float64)
    edges = graph.edges
    blocks = [edges.rows(*span).block for span in itertools.pairwise(CHUNKS)]
    for module in (layer, plain):
        _quiet(module)

    def chunked(x: Tensor) -> Tensor:
        return torch.cat(
            [layer.combine(x[b.referenced], x[b.start : b.start + b.num_targets], b) for b in blocks]
        )

    def at_once(x: Tensor) -> Tensor:
        takes = inspect.signature(plain.forward).parameters
        extras = {"edge_weight": whole.weight, "edge_attr": whole.attr, "edge_type": whole.type}
        return plain(x, whole.edge_index, **{name: value for name, value in extras.items() if name in takes})

    results = [
        _gradients(module, run, rows, direction) for module, run in ((layer.conv, chunked), (plain, at_once))
    ]
    return max(
        float((a - b).abs().max()) / max(1.0, float(b.abs().max()))
        for a, b in zip(*results, strict=True)
        if a.numel()
    )


def _gradients(
    module: nn.Module, run: Callable[[Tensor], Tensor], rows: Tensor, direction: Tensor
) -> list[Tensor]:
    x = rows.clone().requires_grad_()
    leaves = [x, *(weight for weight in module.parameters() if weight.requires_grad)]
    out = run(x)
    found = torch.autograd.grad(out, leaves, direction, allow_unused=True)
    return [
        out.detach(),
        *(torch.zeros_like(a) if b is None else b for a, b in zip(leaves, found, strict=True)),
    ]


def _quiet(module: nn.Module) -> None:
    """float64, with batch norms that normalise by constants; there is no dropout in what is tried here."""
    module.double().train()
    for inner in module.modules():
        if hasattr(inner, "running_mean"):
            inner.eval()


def provide_splines() -> None:
    """Stand in for the two functions of pyg-lib that SplineConv needs, for linear open splines."""
    if not torch_geometric.typing.WITH_SPLINE:
        spline_conv.spline_basis, spline_conv.spline_weighting = _spline_basis, _spline_weighting


def _spline_basis(
    coordinates: Tensor, kernel_size: Tensor, is_open: Tensor, degree: int
) -> tuple[Tensor, Tensor]:
    """Weights of the corners of the cell around each point, and their numbers, ``[num_edges, 2^dim]``."""
    scaled = coordinates * (kernel_size - is_open * degree)
    low = scaled.floor()
    basis, index = [], []
    strides = torch.cat([torch.ones(1, dtype=torch.int64), kernel_size.cumprod(0)[:-1]])
    for corner in itertools.product((0, 1), repeat=coordinates.shape[1]):
        upper = torch.tensor(corner)
        part = scaled - low
        basis.append(torch.where(upper == 1, part, 1 - part).prod(dim=1))
        index.append((((low + upper).long() % kernel_size) * strides).sum(dim=1))
    return torch.stack(basis, dim=1), torch.stack(index, dim=1)


def _spline_weighting(rows: Tensor, weight: Tensor, basis: Tensor, index: Tensor) -> Tensor:
    return torch.einsum("ei,es,esio->eo", rows, basis, weight[index])


def random_graph() -> Graph:
    """A graph with self loops, parallel edges, and nodes without edges."""
    g = torch.Generator().manual_seed(7)
    ends = torch.randint(NUM_NODES - 10, (2, NUM_EDGES), generator=g)
    ends = ends[:, (ends[0] != ends[1]) & (ends[1] % 11 != 0)]
    loops = torch.arange(0, NUM_NODES - 5, 4)
    ends = torch.cat([ends, ends[:, :20], torch.stack([loops, loops])], dim=1)
    ends = ends[:, torch.argsort(ends[1] * NUM_NODES + ends[0], stable=True)]
    size = ends.shape[1]
    return Graph(
        ends,
        torch.rand(size, generator=g, dtype=torch.float64) + 0.2,
        torch.rand(size, EDGE_DIM, generator=g, dtype=torch.float64),
        torch.randint(NUM_TYPES, (size,), generator=g),
    )


def prepared(graph: Graph, kind: Normalization) -> Graph:
    """The graph with another adjacency, made by torch_geometric."""
    if kind == "none":
        return graph
    _, attr = add_remaining_self_loops(graph.edge_index, graph.attr, "mean", NUM_NODES)
    _, types = add_remaining_self_loops(graph.edge_index, graph.type, 0, NUM_NODES)
    edge_index, weight = add_remaining_self_loops(graph.edge_index, graph.weight, 1.0, NUM_NODES)
    if kind == "gcn":
        edge_index, weight = gcn_norm(graph.edge_index, graph.weight, NUM_NODES, dtype=torch.float64)
    order = torch.argsort(edge_index[1] * NUM_NODES + edge_index[0], stable=True)
    return Graph(edge_index[:, order], weight[order], attr[order], types[order])


def _built(kind: type[nn.Module], way: Way) -> tuple[nn.Module, dict[str, Any]]:
    """An instance that runs, and its arguments; raises the first ConfigError if there is none."""
    parameters = inspect.signature(kind.__init__).parameters
    needed = [name for name in _parameters(kind) if parameters[name].default is inspect.Parameter.empty]
    names = [name for name in _parameters(kind) if name in ARGUMENTS and name in (*needed, *way.given)]
    first: ConfigError | None = None
    for choice in itertools.product(*(ARGUMENTS[name] for name in names)):
        torch.manual_seed(0)
        given = {name: make() for name, make in zip(names, choice, strict=True)}
        given |= dict.fromkeys(way.off, False)
        try:
            conv = _instance(kind, given)
            Conv(conv, in_features=ROWS, edges=way.edges).settle(KINDS)
        except ConfigError as error:
            if "fails on a whole graph" not in str(error) and "can't be" not in str(error):
                raise
            first = first or error
        else:
            return conv, given
    raise first or ConfigError(f"Conv({kind.__name__}): no arguments")


def _instance(kind: type[nn.Module], given: Mapping[str, Any]) -> nn.Module:
    try:
        return kind(**given)
    except ImportError:
        raise
    except Exception as error:
        raise ConfigError(
            f"Conv({kind.__name__}): it can't be built: {type(error).__name__}: {error}"
        ) from error


def _empty(kind: type[nn.Module]) -> nn.Module:
    """An instance without weights: some classes can't be built here, and their forward tells."""
    empty = kind.__new__(kind)
    nn.Module.__init__(empty)
    return empty


def _absent(name: str, error: ImportError) -> str:
    """Why a class can't be built here, and what does the same."""
    words = " ".join(str(error).split()).rstrip(".")
    same = f"; {name.removeprefix('CuGraph')} is the same function" if NEEDS_CUDA in words else ""
    return f"can't be built here: {words}{same}"


def _parameters(kind: type[nn.Module]) -> list[str]:
    return list(inspect.signature(kind.__init__).parameters)[1:]


def _written(kind: type[nn.Module], given: Mapping[str, Any], way: Way) -> str:
    """Arguments that make the layer one of a single hop, those that are off, and the adjacency."""
    shown = [name for name in given if name in (*ONE_HOP, "num_layers")]
    words = [f"{name}={_text(given[name])}" for name in shown] + [f"{name}=False" for name in way.off]
    if way.edges != "none":
        words.append(f'edges="{way.edges}"')
    return ", ".join(f"`{word}`" for word in words)


def _text(value: object) -> str:
    return f"{type(value).__name__}(...)" if isinstance(value, nn.Module) else str(value)


def _bare(message: str) -> str:
    """A refusal without the name in front of it, as the table has a column for that."""
    return message.split("): ", 1)[1].replace("|", "\\|")


if __name__ == "__main__":
    main()
