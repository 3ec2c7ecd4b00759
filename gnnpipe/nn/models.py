"""The stack: a model as a list of named layers that can be cut anywhere between two convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from gnnpipe.config.run import GcniiConfig, Model, ModelConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.dense import Dense
from gnnpipe.nn.layers.gcn import GcnLayer
from gnnpipe.nn.layers.gcnii import GcniiLayer
from gnnpipe.nn.layers.resgcn import ResGcnLayer
from gnnpipe.nn.layers.sage import SageLayer

Build = Callable[[torch.Generator], Layer]
"""Builds a layer; the generator draws its weights."""


@dataclass(frozen=True)
class ModelSpec:
    """The numbers that a model is built from; they build the same model on every rank."""

    model: Model
    layers: int
    """Number of convolutions."""
    hidden: int
    num_features: int
    num_classes: int
    sparse_features: bool = False
    seed: int = 0
    gcnii: GcniiConfig = field(default_factory=GcniiConfig)
    """The constants of GCNII."""
    edge_dim: int = 0
    """Columns of the edges' features; 0 if they have none, or the model does not read them."""
    num_edge_types: int = 0
    """Number of types of edges, without that of added self loops; 0 as for the features."""

    @property
    def architecture(self) -> Architecture:
        """The model's entry in `MODELS`."""
        return MODELS[self.model]

    @property
    def normalization(self) -> Normalization:
        """Normalisation of the adjacency that the model multiplies with."""
        return self.architecture.normalization

    @property
    def reads_edges(self) -> bool:
        """Whether the model reads features or types of edges."""
        return self.architecture.reads_edges

    @property
    def has_initial(self) -> bool:
        """Whether every layer reads the initial rows h0, which then travel between stages too."""
        return self.architecture.has_initial


@dataclass(frozen=True)
class Ends:
    """Builders of the dense layers around the convolutions."""

    first: Callable[[ModelSpec, torch.Generator], Dense]
    """Builds the layer from features to hidden rows."""
    last: Callable[[ModelSpec, torch.Generator], Dense]
    """Builds the layer from hidden rows to classes."""


@dataclass(frozen=True)
class Architecture:
    """A model: all that the package knows of it. A new one is an entry of `MODELS`.

    Raises:
        ValueError: the model has initial rows, and no dense layer to make them.
    """

    convolution: Callable[[ModelSpec, int, torch.Generator], Layer]
    """Builds the convolution of an index, counted from 0."""
    ends: Ends | None = None
    """The dense layers; None where the first convolution reads features and the last one makes logits."""
    normalization: Normalization = "gcn"
    """Normalisation of the adjacency."""
    reads_edges: bool = False
    """Whether layers read features or types of edges, where the graph has any."""
    has_initial: bool = False
    """Whether all layers read the rows that the input layer has made (initial rows)."""
    copies_weights: bool = False
    """Whether an epoch begins with a copy of the weights; for the memory estimate."""

    def __post_init__(self) -> None:
        # Gradients of initial rows also come from layers that don't mask them by the input layer's ReLU: only
        # a dense layer (and autograd) asks its ReLU again, see `Runner`.
        if self.has_initial and self.ends is None:
            raise ValueError("has_initial: initial rows are made by a dense input layer; give the model ends")


def spec_for(config: ModelConfig, data: Graph, seed: int = 0, gcnii: GcniiConfig | None = None) -> ModelSpec:
    """The spec of a model for a graph; for shapes alone, the seed and GCNII's constants can be left out."""
    reads_edges = MODELS[config.model].reads_edges
    return ModelSpec(
        config.model,
        config.layers,
        config.hidden,
        data.num_features,
        data.num_classes,
        isinstance(data.features, Csr),
        seed,
        gcnii or GcniiConfig(),
        data.edge_dim if reads_edges else 0,
        data.num_edge_types if reads_edges else 0,
    )


@dataclass(frozen=True)
class LayerSpec:
    """A layer that has not been built yet: each stage builds only its own."""

    name: str
    """Prefix of its weights' keys: ``input``, ``layers.7``, ``output``."""
    number: int
    """Position in the stack; seeds its weights and keys its dropout masks."""
    convolution: int
    """Index of the convolution whose stage it runs on: its own, or for dense ends the first or last one's."""
    build: Build
    """Builds the layer."""
    seed: int
    """Seed of the run."""

    def __call__(self) -> Layer:
        """Build the layer; its weights are a function of (seed, number) alone."""
        return self.build(torch.Generator().manual_seed(self.seed * 1_000_003 + self.number))


def build_stack(spec: ModelSpec) -> list[LayerSpec]:
    """List the layers of a model from features to logits."""
    model = spec.architecture
    builders: list[tuple[str, int, Build]] = []
    if model.ends is not None:
        builders.append(("input", 0, partial(model.ends.first, spec)))
    builders += [
        (f"layers.{index}", index, partial(model.convolution, spec, index)) for index in range(spec.layers)
    ]
    if model.ends is not None:
        builders.append(("output", spec.layers - 1, partial(model.ends.last, spec)))
    return [
        LayerSpec(name, number, convolution, build, spec.seed)
        for number, (name, convolution, build) in enumerate(builders)
    ]


def fitted(spec: ModelSpec, weights: Mapping[str, Tensor]) -> ModelSpec:
    """The spec with the numbers of features and of outputs that weights have.

    Args:
        spec: the model; its own two numbers do not matter.
        weights: weights by name, as in a run's file, which may be anybody's.

    Raises:
        ValueError: a weight is absent, has another shape, or belongs to no layer.
    """
    if spec.layers > len(weights):
        raise ValueError(f"number of weights: {len(weights)} for {spec.layers} layers")
    layers = build_stack(spec)
    ends = [_matrix(weights, layer.name) for layer in (layers[0], layers[-1])]
    spec = replace(spec, num_features=ends[0].shape[0], num_classes=ends[1].shape[1])
    unknown = set(weights)
    for layer in build_stack(spec):
        # shapes alone: settings may claim sizes that no memory holds
        with torch.device("meta"):
            expected = layer().state_dict()
        for name, weight in expected.items():
            key = f"{layer.name}.{name}"
            found = weights.get(key)
            if found is None or found.shape != weight.shape:
                held = "absent" if found is None else f"of shape {list(found.shape)}"
                raise ValueError(f"{key} should have the shape {list(weight.shape)}, and is {held}")
            unknown.discard(key)
    if unknown:
        raise ValueError(f"{min(unknown)} is no weight of {spec.model} with {spec.layers} layers")
    return spec


def _matrix(weights: Mapping[str, Tensor], layer: str) -> Tensor:
    """A weight ``[in, out]`` of a layer; raises ValueError if it has none."""
    found = (weight for name, weight in weights.items() if name.startswith(f"{layer}.") and weight.dim() == 2)
    matrix = next(found, None)
    if matrix is None:
        raise ValueError(f"it has no weights of {layer}")
    return matrix


def _input(spec: ModelSpec, g: torch.Generator, *, relu: bool) -> Dense:
    return Dense(spec.num_features, spec.hidden, g, relu=relu)


def _output(spec: ModelSpec, g: torch.Generator, *, pre_norm: bool) -> Dense:
    return Dense(spec.hidden, spec.num_classes, g, pre_norm=pre_norm)


def _without_ends(kind: type[GcnLayer | SageLayer], spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    """A convolution of a model without dense ends: the first reads features, the last makes logits."""
    first, last = index == 0, index == spec.layers - 1
    return kind(
        spec.num_features if first else spec.hidden,
        spec.num_classes if last else spec.hidden,
        g,
        sparse_input=first and spec.sparse_features,
        relu=not last,
    )


def _gcnii(spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    return GcniiLayer(spec.hidden, index + 1, spec.gcnii.alpha, spec.gcnii.theta, g)


def _resgcn(spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    return ResGcnLayer(spec.hidden, g)


MODELS: Mapping[Model, Architecture] = {
    "gcn": Architecture(partial(_without_ends, GcnLayer)),
    "sage": Architecture(partial(_without_ends, SageLayer), normalization="mean"),
    "gcnii": Architecture(
        _gcnii,
        Ends(partial(_input, relu=True), partial(_output, pre_norm=False)),
        has_initial=True,
        copies_weights=True,
    ),
    "resgcn": Architecture(_resgcn, Ends(partial(_input, relu=False), partial(_output, pre_norm=True))),
}
