"""The stack: a model as a list of named layers that can be cut anywhere between two convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch

from gnnpipe.config.run import GcniiConfig, Model, ModelConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.normalize import Normalization
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.dense import Dense
from gnnpipe.nn.layers.gcn import GcnLayer
from gnnpipe.nn.layers.gcnii import GcniiLayer
from gnnpipe.nn.layers.resgcn import ResGcnLayer
from gnnpipe.nn.layers.sage import SageLayer

Build = Callable[[torch.Generator], Layer]
"""Builds a layer with weights from a generator."""


@dataclass(frozen=True)
class ModelSpec:
    """What a model is built from; the same numbers build it on every rank."""

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

    @property
    def architecture(self) -> Architecture:
        """What the model is."""
        return MODELS[self.model]

    @property
    def normalization(self) -> Normalization:
        """What the adjacency is normalised to."""
        return self.architecture.normalization

    @property
    def has_initial(self) -> bool:
        """Whether every layer reads the initial rows h0, which then travel between stages too."""
        return self.architecture.has_initial


@dataclass(frozen=True)
class Ends:
    """How the dense layers around the convolutions are built."""

    first: Callable[[ModelSpec, torch.Generator], Layer]
    """From features to hidden rows."""
    last: Callable[[ModelSpec, torch.Generator], Layer]
    """From hidden rows to classes."""


@dataclass(frozen=True)
class Architecture:
    """A model: all that the package knows of it. A new one is an entry of `MODELS`."""

    convolution: Callable[[ModelSpec, int, torch.Generator], Layer]
    """Builds the convolution of an index."""
    ends: Ends | None = None
    """The dense layers; None where the first convolution reads features and the last one makes logits."""
    normalization: Normalization = "gcn"
    """What the adjacency is normalised to."""
    has_initial: bool = False
    """Whether all layers read what the input layer has made."""
    copies_weights: bool = False
    """Whether an epoch begins with a copy of the weights; for the memory estimate."""


def spec_for(
    config: ModelConfig, data: GraphData, seed: int = 0, gcnii: GcniiConfig | None = None
) -> ModelSpec:
    """What a model for a graph is built from; the seed and GCNII's constants change no shape."""
    return ModelSpec(
        config.model,
        config.layers,
        config.hidden,
        data.num_features,
        data.num_classes,
        isinstance(data.features, Csr),
        seed,
        gcnii or GcniiConfig(),
    )


@dataclass(frozen=True)
class LayerSpec:
    """A layer that has not been built: stages build only their own."""

    name: str
    """Prefix of its weights' keys: ``input``, ``layers.7``, ``output``."""
    number: int
    """Position in the stack; seeds its weights and keys its dropout masks."""
    convolution: int
    """Index of the convolution that it belongs to; ends belong to the first and the last one."""
    build: Build
    seed: int

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


def _input(spec: ModelSpec, g: torch.Generator, *, relu: bool) -> Layer:
    return Dense(spec.num_features, spec.hidden, g, relu=relu)


def _output(spec: ModelSpec, g: torch.Generator, *, pre_norm: bool) -> Layer:
    return Dense(spec.hidden, spec.num_classes, g, pre_norm=pre_norm)


def _without_ends(kind: type[GcnLayer | SageLayer], spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    """A convolution of a model that has no dense layers."""
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
