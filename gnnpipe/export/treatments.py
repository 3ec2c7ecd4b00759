"""What a run did to its graph before training, as code of the exported file."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.config.features import DEGREE
from gnnpipe.config.run import GraphConfig


@dataclass(frozen=True)
class Helper:
    """A function of the exported file."""

    code: str
    utils: tuple[str, ...] = ()
    """Functions of ``torch_geometric.utils`` that it calls."""


NORMALIZE = Helper('''\
def normalize_features(x: Tensor) -> Tensor:
    """Make entries 0 or larger, and rows sum to 1 (as NormalizeFeatures)."""
    x = x - x.min()
    return x / x.sum(dim=1, keepdim=True).clamp(min=1.0)
''')

STANDARDIZE = Helper('''\
def standardize_features(x: Tensor) -> Tensor:
    """Give each column mean 0 and deviation 1 over all nodes; constant ones get 0."""
    columns = x.double()
    deviation, mean = torch.std_mean(columns, dim=0, correction=0)
    constant = deviation <= 1e-12 * mean.abs()
    return torch.where(constant, 0.0, (columns - mean) / deviation).to(x.dtype)
''')

WITH_REVERSE = Helper(
    '''\
def with_reverse(
    edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int
) -> tuple[Tensor, Tensor | None]:
    """Add the reverse of every edge, as in training.

    Without weights all edges then count once. An edge with a weight gives it to its
    reverse; self loops, and nodes that are joined both ways already, stay as they are.
    """
    if edge_weight is None or bool((edge_weight == 1).all()):
        return to_undirected(edge_index, num_nodes=num_nodes), None
    source, target = edge_index
    pair, reverse = source * num_nodes + target, target * num_nodes + source
    one_way = (source != target) & ~torch.isin(reverse, pair)
    edge_index = torch.cat([edge_index, edge_index[:, one_way].flip(0)], dim=1)
    return edge_index, torch.cat([edge_weight, edge_weight[one_way]])
''',
    ("to_undirected",),
)

_DEGREE = '''\
def degree_features(
    edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None
) -> Tensor:
    """Make the features that the model was trained on, from the edges of a graph.

    {about}
    """
{reverse}    if edge_weight is None or bool((edge_weight == 1).all()):
        edge_index = coalesce(edge_index, num_nodes=num_nodes)  # parallel edges are one
    source, target = edge_index
    counts = {counts}
    columns = torch.stack(counts, dim=1).double().log1p()
    deviation = columns.std(dim=0, correction=0)
    constant = deviation <= 1e-12 * columns.amax(dim=0)
    scaled = (columns - columns.mean(dim=0)) / deviation
    return torch.where(constant, 1.0, scaled).float()
'''


def helpers_of(config: GraphConfig, num_features: int) -> list[Helper]:
    """The functions that the exported file of a run needs, in order.

    Args:
        config: what the run did to its graph.
        num_features: columns of the features.
    """
    found = [WITH_REVERSE] if config.undirected else []
    if config.features == DEGREE:
        found.append(_degree_helper(num_features, undirected=config.undirected))
    if config.normalize_features:
        found.append(NORMALIZE)
    if config.standardize_features:
        found.append(STANDARDIZE)
    return found


def _degree_helper(num_features: int, *, undirected: bool) -> Helper:
    both = num_features == 2
    about = (
        "log(1 + number of edges that come in), and log(1 + number that go out), each with mean\n"
        "    0 and deviation 1 over all nodes; a constant column is 1."
        if both
        else "log(1 + number of edges), with mean 0 and deviation 1 over all nodes; 1 if constant."
    )
    incoming, outgoing = (f"degree({end}, num_nodes, torch.long)" for end in ("target", "source"))
    counts = f"[{incoming}]"
    if both:
        counts = f"[\n        {incoming},\n        {outgoing},\n    ]"
    reverse = "    edge_index, edge_weight = with_reverse(edge_index, edge_weight, num_nodes)\n"
    code = _DEGREE.format(about=about, counts=counts, reverse=reverse if undirected else "")
    if not both:
        code = code.replace("    source, target = edge_index\n", "    target = edge_index[1]\n")
    return Helper(code, ("coalesce", "degree"))
