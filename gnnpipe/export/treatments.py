"""Treatment of the graph before training, as code of the exported file.

Features are scaled by the numbers of the graph that the model was trained on, which go into the code or,
where they are many, beside the weights. Runs of older versions did not keep them: their exports scale by the
numbers of the graph that they are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.config.features import DEGREE
from gnnpipe.export.trained import Trained
from gnnpipe.graph.scaled_features import Columns


@dataclass(frozen=True)
class Buffer:
    """Numbers that the exported module keeps beside its weights."""

    name: str
    default: str
    """Expression that makes numbers of this shape which change nothing."""
    value: Tensor


@dataclass(frozen=True)
class Helper:
    """A function of the exported file."""

    code: str
    utils: tuple[str, ...] = ()
    """Functions of ``torch_geometric.utils`` that it calls."""


_WITH_REVERSE = Helper(
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

_NORMALIZE_ANEW = '''\
def normalize_features(x: Tensor) -> Tensor:
    """Subtract the smallest entry; divide rows by sums that are above 1."""
    x = x - x.min()
    return x / x.sum(dim=1, keepdim=True).clamp(min=1.0)
'''

_NORMALIZE = '''\
def normalize_features(x: Tensor) -> Tensor:
    """Subtract the smallest entry in training; divide rows by sums that are above 1."""
    x = x {subtracted}
    return x / x.sum(dim=1, keepdim=True).clamp(min=1.0)
'''

_NORMALIZE_BY_SUMS = '''\
def normalize_features(x: Tensor) -> Tensor:
    """Divide rows by sums that are above 1."""
    return x / x.sum(dim=1, keepdim=True).clamp(min=1.0)
'''

_STANDARDIZE_ANEW = '''\
def standardize_features(x: Tensor) -> Tensor:
    """Give each column mean 0 and deviation 1 over all nodes; constant ones get 0."""
    columns = x.double()
    deviation, mean = torch.std_mean(columns, dim=0, correction=0)
    constant = deviation <= 1e-12 * mean.abs()
    return torch.where(constant, 0.0, (columns - mean) / deviation).to(x.dtype)
'''

_DEGREE = '''\
def degree_features(
    edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None
) -> Tensor:
    """Make the features that the model was trained on, from the edges of a graph.

    {about}
    """
{reverse}    if edge_weight is None or bool((edge_weight == 1).all()):
        edge_index = coalesce(edge_index, num_nodes=num_nodes)  # parallel edges are one
{counts}
    columns = torch.stack(counts, dim=1).double().log1p()
{scaled}
'''
_INCOMING = """\
    counts = [degree(edge_index[1], num_nodes, torch.long)]"""
_BOTH = """\
    source, target = edge_index
    counts = [degree(end, num_nodes, torch.long) for end in (target, source)]"""
_SCALED_ANEW = """\
    deviation, mean = torch.std_mean(columns, dim=0, correction=0)
    constant = deviation <= 1e-12 * columns.amax(dim=0)
    return torch.where(constant, 1.0, (columns - mean) / deviation).float()"""
_SCALED = """\
    mean = columns.new_tensor({mean!r})
    deviation = columns.new_tensor({deviation!r})
    return {result}.float()"""


def helpers_of(trained: Trained) -> list[Helper]:
    """The functions that the exported file of a run needs, in order."""
    config = trained.config
    found = [_WITH_REVERSE] if config.undirected else []
    if config.features == DEGREE:
        found.append(_degree_helper(trained))
    if config.normalize_features:
        found.append(_normalize_helper(trained.scaling.least))
    if config.standardize_features and not trained.scaling.columns.mean:
        found.append(Helper(_STANDARDIZE_ANEW))
    return found


def _normalize_helper(least: float | None) -> Helper:
    if least is None:
        return Helper(_NORMALIZE_ANEW)
    if least == 0:
        return Helper(_NORMALIZE_BY_SUMS)
    return Helper(_NORMALIZE.format(subtracted=f"- {least!r}" if least > 0 else f"+ {-least!r}"))


def _degree_helper(trained: Trained) -> Helper:
    known, both = trained.scaling.degrees, trained.spec.num_features == 2
    scaled = _SCALED_ANEW
    if known.mean:
        result = "((columns - mean) / deviation)"
        if 0.0 in known.deviation:
            result = f"torch.where(deviation == 0, 1.0, {result[1:-1]})"
        scaled = _SCALED.format(mean=list(known.mean), deviation=list(known.deviation), result=result)
    what = "log(1 + number of edges that come in)"
    about = f"{what}, and log(1 + number that go out), scaled." if both else f"{what}, scaled."
    reverse = "    edge_index, edge_weight = with_reverse(edge_index, edge_weight, num_nodes)\n"
    code = _DEGREE.format(
        about=about,
        reverse=reverse if trained.config.undirected else "",
        counts=_BOTH if both else _INCOMING,
        scaled=scaled,
    )
    return Helper(code, ("coalesce", "degree"))


def steps_of(trained: Trained, *, normalizes: bool) -> list[str]:
    """Steps of the exported module before the first layer, line by line.

    Args:
        trained: the model.
        normalizes: whether edges are normalised by ``gcn_norm``.
    """
    config, steps = trained.config, list[str]()
    if config.normalize_features:
        steps.append("x = normalize_features(x)")
    if config.standardize_features:
        known = "((x - self.feature_mean) * self.feature_scale).to(x.dtype)"
        steps.append(f"x = {known if trained.scaling.columns.mean else 'standardize_features(x)'}")
    if config.undirected:
        steps.append("edge_index, edge_weight = with_reverse(edge_index, edge_weight, len(x))")
    if normalizes:
        arguments = "    edge_index, edge_weight, len(x), dtype=x.dtype"
        steps += ["edge_index, edge_weight = gcn_norm(", arguments, ")"]
    return steps


def buffers_of(trained: Trained) -> list[Buffer]:
    """The numbers that the exported module keeps beside its weights."""
    found, columns = list[Buffer](), trained.scaling.columns
    if trained.config.standardize_features and columns.mean:
        mean = torch.tensor(columns.mean, dtype=torch.float64)  # float32 rounds a year by 1e-4
        found += [
            Buffer("feature_mean", "torch.zeros(in_channels).double()", mean),
            Buffer("feature_scale", "torch.ones(in_channels).double()", _scale_of(columns)),
        ]
    if trained.regression:
        mean, deviation = map(torch.tensor, (trained.standard.mean, trained.standard.deviation))
        found += [
            Buffer("value_mean", "torch.zeros(out_channels)", mean),
            Buffer("value_deviation", "torch.ones(out_channels)", deviation),
        ]
    return found


def _scale_of(columns: Columns) -> Tensor:
    """Factor of each column; 0 for constant ones, which become 0."""
    deviation = torch.tensor(columns.deviation, dtype=torch.float64)
    return torch.where(deviation == 0, 0.0, 1 / deviation)


def about_features(trained: Trained) -> str:
    """The argument ``x`` in words."""
    config, scaling = trained.config, trained.scaling
    words = "float32 ``[num_nodes, in_channels]``, dense: "
    if config.features is None:
        words += "features of the nodes, as gnnpipe was given them"
    elif config.features == DEGREE:
        words += "what `degree_features` makes of the edges"
    else:
        words += (
            "the eigenvectors that it was trained on, which ``gnnpipe.load(..., "
            f'features="{config.features}").features`` makes again. Computed in another way they may '
            "differ in sign, or by a rotation"
        )
    if not (config.normalize_features or config.standardize_features):
        return f"{words}."
    how = "normalised" if config.normalize_features else "standardised"
    known = scaling.least is not None if config.normalize_features else bool(scaling.columns.mean)
    by = "by the numbers of the graph that it was trained on"
    return f"{words}. They are {how} here, {by if known else 'so give all nodes of a graph at once'}."
