"""The stack: a model as a list of named layers that can be cut anywhere between two convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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

    @property
    def normalization(self) -> Normalization:
        """What the adjacency is normalised to."""
        return "mean" if self.model == "sage" else "gcn"

    @property
    def has_initial(self) -> bool:
        """Whether every layer reads the initial rows h0, which then travel between stages too."""
        return self.model == "gcnii"

    @property
    def has_ends(self) -> bool:
        """Whether dense layers come before the first and after the last convolution."""
        return self.model in ("gcnii", "resgcn")


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
    build: Callable[[torch.Generator], Layer]
    seed: int

    def __call__(self) -> Layer:
        """Build the layer; its weights are a function of (seed, number) alone."""
        return self.build(torch.Generator().manual_seed(self.seed * 1_000_003 + self.number))


def build_stack(spec: ModelSpec) -> list[LayerSpec]:
    """List the layers of a model from features to logits."""
    builders: list[tuple[str, int, Callable[[torch.Generator], Layer]]] = []
    if spec.has_ends:
        relu = spec.model == "gcnii"
        builders.append(
            (
                "input",
                0,
                lambda g: Dense(spec.num_features, spec.hidden, g, relu=relu, reads_features=True),
            ),
        )
    builders += [(f"layers.{index}", index, _convolution(spec, index)) for index in range(spec.layers)]
    if spec.has_ends:
        pre_norm = spec.model == "resgcn"
        builders.append(
            ("output", spec.layers - 1, lambda g: Dense(spec.hidden, spec.num_classes, g, pre_norm=pre_norm))
        )
    return [
        LayerSpec(name, number, convolution, build, spec.seed)
        for number, (name, convolution, build) in enumerate(builders)
    ]


def _convolution(spec: ModelSpec, index: int) -> Callable[[torch.Generator], Layer]:
    """How to build convolution ``index``."""
    if spec.model == "gcnii":
        alpha, theta = spec.gcnii.alpha, spec.gcnii.theta
        return lambda g: GcniiLayer(spec.hidden, index + 1, alpha, theta, g)
    if spec.model == "resgcn":
        return lambda g: ResGcnLayer(spec.hidden, g)
    kind = SageLayer if spec.model == "sage" else GcnLayer
    first, last = index == 0, index == spec.layers - 1
    in_features = spec.num_features if first else spec.hidden
    out_features = spec.num_classes if last else spec.hidden
    sparse = first and spec.sparse_features
    return lambda g: kind(in_features, out_features, g, sparse_input=sparse, relu=not last)
