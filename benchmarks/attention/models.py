"""The models that are compared: convolutions of several heads, each behind dropout and in front of a ReLU,
then a linear layer. The lists differ in nothing but who runs the convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn
from torch_geometric.nn import GATConv

from gnnpipe.nn.conv.layer import Conv
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.attention.gat import GatLayer
from gnnpipe.nn.layers.attention.gatv2 import Gatv2Layer
from gnnpipe.nn.own.rows import Rows

HEADS, WIDTH = 4, 32
DEGREE = 20.0
HIDDEN = HEADS * WIDTH
Builders = Iterator[Callable[[], Layer]]


def gat(num_features: int, num_classes: int, depth: int) -> Builders:
    """The built-in layer."""
    for number in range(depth):
        yield lambda number=number: GatLayer(num_features if number == 0 else HIDDEN, HEADS, WIDTH)
    yield lambda: Rows(nn.Linear(HIDDEN, num_classes))


def gatv2(num_features: int, num_classes: int, depth: int) -> Builders:
    """The built-in layer."""
    for number in range(depth):
        yield lambda number=number: Gatv2Layer(num_features if number == 0 else HIDDEN, HEADS, WIDTH)
    yield lambda: Rows(nn.Linear(HIDDEN, num_classes))


def pushed(num_features: int, num_classes: int, depth: int) -> Builders:
    """torch_geometric's layer in ours; self loops are in the adjacency."""
    for number in range(depth):
        yield lambda number=number: Conv(
            GATConv(num_features if number == 0 else HIDDEN, WIDTH, HEADS, add_self_loops=False),
            act=nn.ReLU(),
            edges="loops",
        )
    yield lambda: Rows(nn.Linear(HIDDEN, num_classes))
