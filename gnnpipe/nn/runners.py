"""The one place that chooses how a layer runs in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gnnpipe.nn.autograd import Autograd
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.dense import DenseRunner, NormedDenseRunner
from gnnpipe.nn.layers.gcn import GcnAggregateFirst, GcnTransformFirst
from gnnpipe.nn.layers.gcnii import GcniiRunner
from gnnpipe.nn.layers.resgcn import ResGcnRunner
from gnnpipe.nn.layers.sage import SageAggregateFirst, SageTransformFirst
from gnnpipe.nn.models import LayerSpec
from gnnpipe.nn.running import AnyRunner, InputRows

WRITTEN_OUT = (
    DenseRunner,
    NormedDenseRunner,
    GcnTransformFirst,
    GcnAggregateFirst,
    SageTransformFirst,
    SageAggregateFirst,
    GcniiRunner,
    ResGcnRunner,
)


def runner_of(layer: Layer, rows: InputRows) -> AnyRunner:
    """The derivative that is written out for a layer, if there is one for such input rows; else autograd."""
    for kind in WRITTEN_OUT:
        runner = kind.of(layer, rows)
        if runner is not None:
            return runner
    return Autograd(layer, rows)


def rows_behind(layer: Layer | None) -> InputRows:
    """What the rows behind a layer are; None stands for features."""
    if layer is None:
        return "features"
    return "relu" if layer.relu else "any"


def input_rows(stack: Sequence[LayerSpec], number: int) -> InputRows:
    """What the input rows of layer ``number`` are, whoever holds the layer in front."""
    with torch.device("meta"):  # its shape is enough
        return rows_behind(stack[number - 1]() if number else None)
