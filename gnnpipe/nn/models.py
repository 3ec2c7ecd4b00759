"""The stack: a model as a list of named layers that can be cut anywhere between two convolutions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from gnnpipe.config.code.options import arguments_given
from gnnpipe.config.code.place import is_code
from gnnpipe.config.run import GROUPS, HEADS, GcniiConfig, JumpingKnowledge, ModelConfig, Norm, Residual
from gnnpipe.errors import ConfigError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.attention.attending import Attention
from gnnpipe.nn.layers.attention.gat import GatLayer
from gnnpipe.nn.layers.attention.gatv2 import Gatv2Layer
from gnnpipe.nn.layers.convolution import Convolution
from gnnpipe.nn.layers.dense import Dense
from gnnpipe.nn.layers.gcn import GcnLayer
from gnnpipe.nn.layers.gcnii import GcniiLayer
from gnnpipe.nn.layers.gen import gen_layer
from gnnpipe.nn.layers.gin import GinLayer
from gnnpipe.nn.layers.mesh import MeshLayer
from gnnpipe.nn.layers.resgcn import ResGcnLayer
from gnnpipe.nn.layers.sage import SageLayer
from gnnpipe.nn.layers.sage_max import SageMaxLayer
from gnnpipe.nn.layers.wrappers.around import Around
from gnnpipe.nn.layers.wrappers.coupling import Coupling
from gnnpipe.nn.layers.wrappers.extras import PLAIN, Extras
from gnnpipe.nn.layers.wrappers.jump import Jump
from gnnpipe.nn.own.arguments import OwnModel
from gnnpipe.nn.own.code import checksum_of
from gnnpipe.nn.own.model import Outline, outline_of
from gnnpipe.nn.own.model import build as build_own

Build = Callable[[torch.Generator], Layer]
"""Builds a layer; the generator draws its weights."""


@dataclass(frozen=True)
class Options:
    """Choices that every model has, as they were asked for."""

    norm: Norm | None = None
    """None for the model's own."""
    residual: Residual | None = None
    """None for the model's own."""
    jk: JumpingKnowledge = "none"
    heads: int | None = None
    """None for the model's own."""
    groups: int = 1
    """Number of groups of columns of reversible blocks; 1 for other blocks."""

    @classmethod
    def of(cls, config: ModelConfig) -> Options:
        """The options of a run."""
        groups = (config.groups or GROUPS) if config.reversible else 1
        return cls(config.norm, config.residual, config.jk, config.heads, groups)


@dataclass(frozen=True)
class ModelSpec:
    """The numbers that a model is built from; they build the same model on every rank."""

    model: str
    """A name of `MODELS`, or the place of a function that yields the layers."""
    layers: int
    """Number of convolutions."""
    hidden: int
    """Columns of the hidden rows; of the widest ones where they differ."""
    num_features: int
    num_classes: int
    sparse_features: bool = False
    seed: int = 0
    gcnii: GcniiConfig = field(default_factory=GcniiConfig)
    """The constants of GCNII."""
    options: Options = field(default_factory=Options)
    """Choices that every model has."""
    edge_dim: int = 0
    """Columns of the edges' features; 0 if they have none, or the model does not read them."""
    num_edge_types: int = 0
    """Number of types of edges, without that of added self loops; 0 as for the features."""

    @property
    def extras(self) -> Extras:
        """Norm and residual: what was asked for, or the model's own."""
        own, asked = self.architecture.extras, self.options
        return Extras(asked.norm or own.norm, asked.residual or own.residual)

    @property
    def has_output(self) -> bool:
        """Whether a dense layer makes the logits; jumping knowledge needs one."""
        return self.architecture.ends is not None or self.options.jk != "none"

    arguments: tuple[str, ...] = ()
    """For a model of one's own: arguments of its function that the user has chosen, each ``name=value``."""
    checksum: str = ""
    """Hash of the file of a model of one's own; empty for others."""

    @property
    def architecture(self) -> Architecture:
        """The model's entry in `MODELS`, or the list of a model of one's own."""
        return MODELS[self.model] if self.own is None else _listed(self.own)

    @property
    def own(self) -> OwnModel | None:
        """A model of one's own; None for one of `MODELS`."""
        if not is_code(self.model):
            return None
        edges = self.edge_dim, self.num_edge_types
        sizes = self.num_features, self.num_classes, *edges, self.sparse_features
        return OwnModel(self.model, self.checksum, self.arguments, *sizes)

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
    extras: Extras = field(default_factory=Extras)
    """Norm and residual where none are asked for."""
    reads_edges: bool = False
    """Whether layers read features or types of edges, where the graph has any."""
    has_initial: bool = False
    """Whether all layers read the rows that the input layer has made (initial rows)."""
    copies_weights: bool = False
    """Whether an epoch begins with a copy of the weights; for the memory estimate."""
    listed: Outline | None = None
    """All layers of a model of one's own, which has dense ones where it likes; None for others."""

    def __post_init__(self) -> None:
        # Gradients of initial rows also come from layers that don't mask them by the input layer's ReLU: only
        # a dense layer (and autograd) asks its ReLU again, see `Runner`.
        if self.has_initial and self.ends is None:
            raise ValueError("has_initial: initial rows are made by a dense input layer; give the model ends")


def spec_for(config: ModelConfig, data: Graph, seed: int = 0, gcnii: GcniiConfig | None = None) -> ModelSpec:
    """The spec of a model for a graph; for shapes alone, the seed and GCNII's constants can be left out."""
    edges = data.edge_dim, data.num_edge_types
    sizes = DataSizes(data.num_features, data.num_classes, *edges, isinstance(data.features, Csr))
    return spec_of(config, sizes, seed, gcnii)


@dataclass(frozen=True)
class DataSizes:
    """Sizes of a graph that a model depends on."""

    num_features: int
    num_classes: int
    edge_dim: int = 0
    """Columns of the edges' features; 0 for none."""
    num_edge_types: int = 0
    sparse_features: bool = False


def spec_of(
    config: ModelConfig, sizes: DataSizes, seed: int = 0, gcnii: GcniiConfig | None = None
) -> ModelSpec:
    """The spec of a model for a graph of certain sizes; that of one's own is run to count its layers.

    Raises:
        ConfigError: the code of a model of one's own fails, or its layers don't fit; or layers that read
            features of edges are to be reversible.
    """
    ends = sizes.num_features, sizes.num_classes, sizes.sparse_features, seed, gcnii or GcniiConfig()
    spec = ModelSpec(config.model, config.layers, config.hidden, *ends, Options.of(config))
    with_edges = replace(spec, edge_dim=sizes.edge_dim, num_edge_types=sizes.num_edge_types)
    if is_code(config.model):
        own = replace(with_edges, arguments=arguments_given(config), checksum=checksum_of(config.model))
        return counted(own)
    if spec.reads_edges and sizes.edge_dim and spec.options.groups > 1:
        raise ConfigError(
            f"reversible: {config.model} reads the features of this graph's edges, and then has no such "
            "blocks; leave it out, use --model resgcn, or a graph without features of edges"
        )
    return with_edges if spec.reads_edges else spec


def counted(spec: ModelSpec) -> ModelSpec:
    """The spec with the number of layers and the width that the list of a model of one's own has."""
    listed = spec.architecture.listed
    return spec if listed is None else replace(spec, layers=listed.num_convolutions, hidden=listed.hidden)


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
    aggregates: bool = True
    """Whether it reads neighbours."""

    def __call__(self) -> Layer:
        """Build the layer; its weights are a function of (seed, number) alone."""
        return self.build(torch.Generator().manual_seed(self.seed * 1_000_003 + self.number))


def build_stack(spec: ModelSpec) -> list[LayerSpec]:
    """List the layers of a model from features to logits."""
    model = spec.architecture
    if model.listed is not None:
        return _listed_stack(spec, model.listed)
    builders: list[tuple[str, int, Build]] = []
    if model.ends is not None:
        builders.append(("input", 0, partial(model.ends.first, spec)))
    builders += [
        (f"layers.{index}", index, partial(_convolution, spec, index)) for index in range(spec.layers)
    ]
    if spec.has_output:
        last = model.ends.last if model.ends is not None else _output
        builders.append(("output", spec.layers - 1, partial(last, spec)))
    return [
        LayerSpec(name, number, convolution, build, spec.seed, name not in ("input", "output"))
        for number, (name, convolution, build) in enumerate(builders)
    ]


OF_EDGES = "weight_edge"
"""Name of a layer's weight for features of edges, ``[edge_dim, columns]``."""


def _listed_stack(spec: ModelSpec, listed: Outline) -> list[LayerSpec]:
    """The layers of a model of one's own."""
    places = zip(listed.convolutions(), listed.items, strict=True)
    return [
        LayerSpec(
            f"layers.{number}",
            number,
            convolution,
            partial(_listed_layer, spec, number),
            spec.seed,
            item.aggregates,
        )
        for number, (convolution, item) in enumerate(places)
    ]


def _listed_layer(spec: ModelSpec, number: int, generator: torch.Generator) -> Layer:
    """Build a layer of a model of one's own, which draws its weights with PyTorch's own generator."""
    assert spec.own is not None
    return build_own(spec.own, number, generator.initial_seed())


def _listed(own: OwnModel) -> Architecture:
    """The architecture of a model of one's own."""
    listed = outline_of(own)

    def convolution(spec: ModelSpec, index: int, generator: torch.Generator) -> Layer:
        numbers = [number for number, item in enumerate(listed.items) if item.aggregates]
        return _listed_layer(spec, numbers[index], generator)

    normalization, reads_edges = listed.normalization, listed.reads_edges
    return Architecture(convolution, normalization=normalization, reads_edges=reads_edges, listed=listed)


def fitted(spec: ModelSpec, weights: Mapping[str, Tensor]) -> ModelSpec:
    """The spec with the numbers of features, of nodes and of edges, and of outputs that weights have.

    Args:
        spec: the model; its own numbers of these do not matter, unless it is one's own.
        weights: weights by name, as in a run's file, which may be anybody's.

    Raises:
        ValueError: a weight is absent, has another shape, or belongs to no layer.
    """
    if spec.own is None:
        spec = _with_ends(spec, weights)
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


def _with_ends(spec: ModelSpec, weights: Mapping[str, Tensor]) -> ModelSpec:
    """The spec with the numbers of rows and columns of certain weights; raises ValueError without them."""
    if spec.layers > len(weights):
        raise ValueError(f"number of weights: {len(weights)} for {spec.layers} layers")
    edge_dim = next((len(weight) for name, weight in weights.items() if name.endswith(OF_EDGES)), 0)
    spec = replace(spec, edge_dim=edge_dim)
    layers = build_stack(spec)
    first, last = _weight_of(weights, layers[0].name, 2), _weight_of(weights, layers[-1].name, 1)
    return replace(spec, num_features=first.shape[0], num_classes=last.shape[0])


def _weight_of(weights: Mapping[str, Tensor], layer: str, dims: int) -> Tensor:
    """A layer's weight ``[in, ...]`` for its input rows, or (``dims`` 1) its bias ``[out]``; raises
    ValueError if it has none."""
    # attention has other matrices: the numbers by which heads score rows, and what features of edges meet
    pattern = rf"{re.escape(layer)}\.(conv\.)*" + (r"weight(?!_edge)\w*" if dims == 2 else "bias")
    found = (w for name, w in weights.items() if re.fullmatch(pattern, name) and w.dim() == dims)
    weight = next(found, None)
    if weight is None:
        raise ValueError(f"it has no weights of {layer}")
    return weight


def _input(spec: ModelSpec, g: torch.Generator, *, relu: bool) -> Dense:
    return Dense(spec.num_features, spec.hidden, g, relu=relu)


def _output(spec: ModelSpec, g: torch.Generator, *, pre_activation: bool = False) -> Dense:
    return Dense(spec.hidden, spec.num_classes, g, pre_norm=spec.extras.norm if pre_activation else None)


def _convolution(spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    """A convolution of a model, with jumping knowledge if that is asked for, or in a reversible block."""
    groups, join = spec.options.groups, spec.options.jk
    if groups > 1:
        options = replace(spec.options, residual="none", groups=1)
        inner = replace(spec, hidden=spec.hidden // groups, options=options)
        return Coupling(spec.architecture.convolution(inner, index, g), index % groups, groups)
    conv = spec.architecture.convolution(spec, index, g)
    return conv if join == "none" else Jump(conv, join, index, last=index == spec.layers - 1)


@dataclass(frozen=True)
class _Open:
    """Sizes of a convolution of a model without an input layer: the first reads features, and the last makes
    logits unless an output layer does."""

    in_features: int
    out_features: int
    sparse_input: bool
    makes_logits: bool
    extras: Extras

    @classmethod
    def of(cls, spec: ModelSpec, index: int) -> _Open:
        """The sizes of the convolution of an index."""
        first, logits = index == 0, index == spec.layers - 1 and not spec.has_output
        # logits are not normalised, and the rows in front of them are not added to them
        linear = Extras(residual="linear") if spec.extras.residual == "linear" else PLAIN
        return cls(
            spec.num_features if first else spec.hidden,
            spec.num_classes if logits else spec.hidden,
            first and spec.sparse_features,
            logits,
            linear if logits else spec.extras,
        )


def _without_ends(kind: type[Convolution], spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    sizes = _Open.of(spec, index)
    return kind(
        sizes.in_features,
        sizes.out_features,
        g,
        sparse_input=sizes.sparse_input,
        relu=not sizes.makes_logits,
        extras=_own_term(sizes.extras) if kind is SageLayer else sizes.extras,
    )


def _attention(
    kind: type[GatLayer | Gatv2Layer], spec: ModelSpec, index: int, g: torch.Generator
) -> Attention | Around:
    """Heads side by side; of logits the mean of the heads."""
    sizes, heads = _Open.of(spec, index), spec.options.heads or HEADS
    logits, plain = sizes.makes_logits, sizes.extras == PLAIN
    conv = kind(
        sizes.in_features,
        heads,
        sizes.out_features if logits else sizes.out_features // heads,
        g,
        edge_dim=spec.edge_dim,
        concat=not logits,
        sparse_input=sizes.sparse_input,
        relu=plain and not logits,
    )
    return conv if plain else Around(conv, sizes.extras, g, relu=not logits)


def _own_term(extras: Extras) -> Extras:
    """The extras of GraphSAGE, whose term of the node itself is the linear residual."""
    return replace(extras, residual="none") if extras.residual == "linear" else extras


def _sage_max(spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    return SageMaxLayer(spec.hidden, spec.hidden, g, _own_term(spec.extras))


def _gcnii(spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    return GcniiLayer(spec.hidden, index + 1, spec.gcnii.alpha, spec.gcnii.theta, g, spec.extras)


def _resgcn(spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    return ResGcnLayer(spec.hidden, g, spec.extras.norm, spec.extras.residual)


def _gen(spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    return gen_layer(spec.hidden, spec.edge_dim, g, spec.extras.norm, spec.extras.residual)


def _mesh(spec: ModelSpec, index: int, g: torch.Generator) -> Layer:
    return MeshLayer(spec.hidden, spec.edge_dim, g, spec.extras.norm, spec.extras.residual)


# Ends behind which rows are activated already, and ends of pre-activation blocks.
ACTIVATED = Ends(partial(_input, relu=True), _output)
PRE_ACTIVATION = Ends(partial(_input, relu=False), partial(_output, pre_activation=True))
NORMED = Extras("layer", "identity")

MODELS: Mapping[str, Architecture] = {
    "gcn": Architecture(partial(_without_ends, GcnLayer)),
    "sage": Architecture(partial(_without_ends, SageLayer), normalization="mean"),
    "sage-max": Architecture(_sage_max, ACTIVATED, normalization="none"),
    "gin": Architecture(partial(_without_ends, GinLayer), normalization="none"),
    "gat": Architecture(partial(_attention, GatLayer), normalization="loops", reads_edges=True),
    "gatv2": Architecture(partial(_attention, Gatv2Layer), normalization="loops", reads_edges=True),
    "gcnii": Architecture(_gcnii, ACTIVATED, has_initial=True, copies_weights=True),
    "resgcn": Architecture(_resgcn, PRE_ACTIVATION, extras=NORMED),
    "gen": Architecture(_gen, PRE_ACTIVATION, normalization="none", extras=NORMED, reads_edges=True),
    "mesh": Architecture(_mesh, PRE_ACTIVATION, normalization="none", extras=NORMED, reads_edges=True),
}
