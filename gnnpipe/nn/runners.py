"""The choice of how a layer runs in training: written out where that is known, else by autograd."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gnnpipe.errors import ConfigError
from gnnpipe.nn.autograd import Autograd
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.runner import BlockRunner
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.attention.gat import GatRunner
from gnnpipe.nn.layers.attention.gatv2 import Gatv2Runner
from gnnpipe.nn.layers.dense import DenseRunner, NormedDenseRunner
from gnnpipe.nn.layers.gcn import GcnAggregateFirst, GcnTransformFirst
from gnnpipe.nn.layers.gcnii import GcniiRunner
from gnnpipe.nn.layers.gin import GinAggregateFirst, GinTransformFirst
from gnnpipe.nn.layers.resgcn import ResGcnRunner
from gnnpipe.nn.layers.sage import SageAggregateFirst, SageTransformFirst
from gnnpipe.nn.layers.wrappers.around import Around, around_runner
from gnnpipe.nn.layers.wrappers.coupling import Coupling, coupling_runner
from gnnpipe.nn.layers.wrappers.jump import Jump
from gnnpipe.nn.layers.wrappers.jump_runner import jump_runner
from gnnpipe.nn.models import LayerSpec
from gnnpipe.nn.running import AnyRunner, InputRows, Pushes

WRITTEN_OUT = (
    DenseRunner,
    NormedDenseRunner,
    GcnTransformFirst,
    GcnAggregateFirst,
    SageTransformFirst,
    SageAggregateFirst,
    GinTransformFirst,
    GinAggregateFirst,
    GcniiRunner,
    ResGcnRunner,
    GatRunner,
    Gatv2Runner,
)


def runner_of(layer: Layer, rows: InputRows) -> AnyRunner:
    """The runner with the written-out derivative of a layer, if there is one for such input rows; else
    autograd's.

    Raises:
        ConfigError: the layer aggregates in a way that only its author can differentiate.
    """
    if isinstance(layer, Around):
        return around_runner(layer, runner_of(layer.conv, rows), rows)
    if isinstance(layer, Jump):
        return jump_runner(layer, runner_of(layer.conv, rows))
    if isinstance(layer, Coupling):
        return coupling_runner(layer, runner_of(layer.inner, "any"))
    # each kind checks the exact class: a subclass may compute something else
    for kind in WRITTEN_OUT:
        runner = kind.of(layer, rows)
        if runner is not None:
            return runner
    if isinstance(layer, BlockLayer):
        return BlockRunner(layer, rows)
    if not layer.is_linear or type(layer).aggregate is not Layer.aggregate:
        name = type(layer).__name__
        raise ConfigError(
            f"model: {name} aggregates in a way of its own, and there is no derivative of {name}, which may "
            "compute something else than the class that it comes from; derive it from "
            "gnnpipe.nn.BlockLayer, and write combine, or from Layer without aggregate"
        )
    return Autograd(layer, rows)


def pushes(stack: Sequence[LayerSpec]) -> bool:
    """Whether gradients of any layer are pushed; layers are built without their numbers."""
    with torch.device("meta"):
        return any(isinstance(runner_of(item(), "any"), Pushes) for item in stack)


def rows_behind(layer: Layer | None) -> InputRows:
    """Origin of the input rows of the layer behind ``layer``; None stands for the features."""
    if layer is None:
        return "features"
    # behind a ReLU dropped rows show where it was 0; written-out derivatives rely on that
    return "relu" if layer.relu else "any"


def input_rows(stack: Sequence[LayerSpec], number: int) -> InputRows:
    """Origin of the input rows of layer ``number``, on whichever stage the layer in front is."""
    with torch.device("meta"):  # builds the layer in front without its numbers
        return rows_behind(stack[number - 1]() if number else None)
