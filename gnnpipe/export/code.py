"""Nouns of the export: a model as code, and the places of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gnnpipe.nn.models import ModelSpec

Constants = Mapping[str, tuple[float, str]]
"""Further arguments of a model's class: value and meaning of each."""


def _no_constants(spec: ModelSpec) -> Constants:
    return {}


@dataclass(frozen=True)
class Moved:
    """A weight's name in the exported module; ``#`` stands for the number of the convolution."""

    name: str
    transposed: bool = False
    """Whether it is stored ``[out, in]``, as in ``nn.Linear``."""
    unsqueezed: bool = False
    """Whether it has a first dimension of 1, as attention's."""


@dataclass(frozen=True)
class Code:
    """One model as torch_geometric's layers. Its texts are code, indented as inside a method."""

    class_name: str
    title: str
    """Name of the model in sentences."""
    about: str
    """The class's docstring: what it computes."""
    convolutions: tuple[str, ...]
    """Classes of ``torch_geometric.nn`` that it is made of."""
    layers: str
    """Makes the layers, in ``__init__``."""
    forward: str
    """Computes hidden rows ``x`` from features ``x``."""
    result: str
    """Expression of the output rows."""
    weights: Mapping[str, Moved]
    """The place of each of our weights, with ``#`` for the number of a convolution."""
    constants: Callable[[ModelSpec], Constants] = _no_constants
    normalizes: bool = True
    """Whether edges are normalised by ``gcn_norm``, once for all layers; else the layers need none of it."""
    imports: str = ""
    """A line of the standard library that the layers need."""
    helper: str = ""
    """A class that the file defines."""
    utils: tuple[str, ...] = ()
    """Functions of ``torch_geometric.utils`` that it needs."""


LOOPS = "A node's own self loop keeps its weight, and every other node gets one of weight 1 (``gcn_norm``)."
LINEAR = {
    "input.weight": Moved("lin_in.weight", transposed=True),
    "input.bias": Moved("lin_in.bias"),
    "output.weight": Moved("lin_out.weight", transposed=True),
    "output.bias": Moved("lin_out.bias"),
}


def gcnii_constants(spec: ModelSpec) -> Constants:
    return {
        "alpha": (float(spec.gcnii.alpha), "share of the initial rows in every layer."),
        "theta": (float(spec.gcnii.theta), "strength of the weights."),
    }
