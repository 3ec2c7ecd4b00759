"""model.json: what an exported model is and expects, for programs."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Literal

import gnnpipe
from gnnpipe.config.features import DEGREE
from gnnpipe.export.architectures import code_of
from gnnpipe.export.trained import Reached, Trained
from gnnpipe.files.typed_json import Key
from gnnpipe.graph.data import Task
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.graph.scaled_features import UNSCALED

FORMAT = 1
Scaling = Literal["none", "normalize", "standardize"]
MadeBy = Literal["nobody", "degree_features", "gnnpipe.load"]
ScaledBy = Literal["nothing", "the graph trained on", "the graph that is given"]
_ADJACENCY: dict[Normalization, tuple[str, str]] = {
    "gcn": (
        "D^-1/2 (A + I) D^-1/2, D the sums of rows of A + I",
        "a node's own keeps its weight, the others get one of weight 1",
    ),
    "mean": ("D^-1 A, D the numbers of edges that come in", "as any other edge; none is added"),
    "none": ("A, with the weights of the edges or 1", "as any other edge; none is added"),
    "loops": ("A, with the weights of the edges or 1", "a node that has none gets one"),
}


@dataclass(frozen=True)
class Edges:
    """How edges are treated. The module does all of it."""

    normalization: str
    """The matrix that layers multiply with, in words."""
    self_loops: str
    undirected: bool
    """Whether the reverse of every edge is added."""
    weighted: bool | None = None
    """Whether the edges that it was trained on had weights. Absent for runs of older versions."""


@dataclass(frozen=True)
class Features:
    """How features are treated."""

    made: str
    """none; degree; or laplacian:K."""
    made_by: MadeBy
    """Who makes them: nobody, where the graph has them; a function of the exported file; or gnnpipe alone."""
    scaling: Scaling
    """Steps of the module before the first layer."""
    scaled_by: ScaledBy
    """Whose smallest entry, or means and deviations, they are scaled by; degrees, too."""


@dataclass(frozen=True)
class Output:
    """Outputs of the module."""

    task: Task
    gives: Literal["logits", "values"]
    """logits; or values in the units of the labels."""
    class_names: tuple[str, ...]
    """Name of each column; empty where classes are just numbers: column k is class k."""
    value_mean: tuple[float, ...] = ()
    value_deviation: tuple[float, ...] = ()
    """With regression, the module returns mean + deviation x what the network learnt."""


@dataclass(frozen=True)
class Metadata:
    """The content of model.json, in the order in which it is written."""

    format: int
    class_name: Annotated[str, Key("class")]
    """Name of the class in model.py."""
    model: str
    layers: int
    hidden: int
    num_features: int
    num_classes: int
    dropout: float
    constants: dict[str, float]
    """Further arguments of the class."""
    edges: Edges
    features: Features
    output: Output
    versions: dict[str, str]
    """Of the packages that wrote the file."""
    finished: bool
    """Whether the run was finished when it was exported; else these were its best weights so far."""
    trained: Reached | None = None
    """The epoch of the weights, and its scores. Absent for runs of older versions, which do not say it."""


def metadata_of(trained: Trained) -> Metadata:
    """The content of model.json for a run's model."""
    spec, config, code = trained.spec, trained.config, code_of(trained.spec)
    normalization, self_loops = _ADJACENCY[spec.normalization]
    return Metadata(
        FORMAT,
        code.class_name,
        spec.model,
        spec.layers,
        spec.hidden,
        spec.num_features,
        spec.num_classes,
        float(config.dropout),
        {name: value for name, (value, _) in code.constants(spec).items()},
        Edges(normalization, self_loops, config.undirected, trained.weighted),
        _features_of(trained),
        Output(
            trained.task,
            "values" if trained.regression else "logits",
            trained.class_names,
            trained.standard.mean,
            trained.standard.deviation,
        ),
        {
            "gnnpipe": gnnpipe.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torch-geometric", "safetensors")},
        },
        trained.finished,
        trained.reached,
    )


def _features_of(trained: Trained) -> Features:
    config, numbers = trained.config, trained.scaling
    scaling: Scaling = "none"
    if config.normalize_features:
        scaling = "normalize"
    elif config.standardize_features:
        scaling = "standardize"
    scaled_by: ScaledBy = "nothing"
    if scaling != "none" or config.features == DEGREE:
        scaled_by = "the graph that is given" if numbers == UNSCALED else "the graph trained on"
    if config.features is None:
        return Features("none", "nobody", scaling, scaled_by)
    maker: MadeBy = "degree_features" if config.features == DEGREE else "gnnpipe.load"
    return Features(config.features, maker, scaling, scaled_by)
