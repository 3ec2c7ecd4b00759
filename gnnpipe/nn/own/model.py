"""The layers of a model of one's own: how many aggregate, which widths they have, and whether they fit."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch.nn.parameter import UninitializedParameter

from gnnpipe.errors import ConfigError, shown
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.batch_norm import BatchNorm
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.conv import Conv
from gnnpipe.nn.conv.blocktest import check_block_layer
from gnnpipe.nn.conv.sample import EdgeKinds
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.wrappers.jump import Jump
from gnnpipe.nn.own.arguments import OwnModel
from gnnpipe.nn.own.items import built, factories
from gnnpipe.nn.own.rows import Rows, check_rows

USUAL: Normalization = "none"
"""Adjacency of a model none of whose layers says which one it wants."""


@dataclass(frozen=True)
class Item:
    """A layer of the list, by its sizes."""

    in_features: int
    out_features: int
    aggregates: bool
    about: str
    """The layer as it prints, shortened, for messages."""
    normalization: Normalization | None
    """Adjacency that it wants; None if any will do."""
    reads_edges: bool
    """Whether it reads features or types of edges."""
    has_batch_norm: bool
    """Whether there is a batch norm inside."""


@dataclass(frozen=True)
class Outline:
    """The layers of a model, by their sizes."""

    items: tuple[Item, ...]
    normalization: Normalization
    """Adjacency of all layers."""

    @property
    def num_convolutions(self) -> int:
        """Number of layers that aggregate."""
        return sum(item.aggregates for item in self.items)

    @property
    def reads_edges(self) -> bool:
        """Whether a layer reads features or types of edges."""
        return any(item.reads_edges for item in self.items)

    @property
    def has_batch_norm(self) -> bool:
        """Whether a layer has a batch norm inside."""
        return any(item.has_batch_norm for item in self.items)

    @property
    def hidden(self) -> int:
        """Columns of the widest hidden rows."""
        return max((item.out_features for item in self.items[:-1]), default=1)

    def convolutions(self) -> list[int]:
        """For each item the index of the convolution whose stage it runs on: rows run where the convolution
        in front of them does."""
        # items      Rows Conv Rows Conv Conv Rows
        # index         0    0    0    1    2    2
        indices, count = [], 0
        for item in self.items:
            count += item.aggregates
            indices.append(max(0, count - 1))
        return indices


@functools.lru_cache(maxsize=16)
def outline_of(own: OwnModel) -> Outline:
    """Build all layers of a model without their numbers, and check that they fit.

    Raises:
        ConfigError: they don't; the message names the items.
    """
    items: list[Item] = []
    with torch.device("meta"):
        for number, factory in enumerate(factories(own)):
            layer = built(own, number, factory, 0)
            width = items[-1].out_features if items else own.num_features
            _fit(own, layer, number, width, items)
            items.append(
                Item(
                    layer.in_features,
                    layer.out_features,
                    layer.width is not None,
                    _about(layer),
                    layer.normalization,
                    layer.reads_edges,
                    any(isinstance(module, BatchNorm) for module in layer.modules()),
                )
            )
            if not number:
                _check_first(own, layer)
    _check_whole(own, items)
    return Outline(tuple(items), _normalization_of(own, items))


def build(own: OwnModel, number: int, seed: int) -> Layer:
    """Build one layer of a model, on the current device."""
    items = outline_of(own).items
    factory = next(factory for place, factory in enumerate(factories(own)) if place == number)
    layer = built(own, number, factory, seed)
    _fit(own, layer, number, items[number].in_features, items[:number])
    return layer


def _fit(own: OwnModel, layer: Layer, number: int, width: int, before: tuple[Item, ...] | list[Item]) -> None:
    """Give a layer the width of its input rows, or check the one that it has."""
    source = (
        f"item {number - 1} ({before[-1].about}) makes {width}"
        if before
        else f"the graph has {width} features"
    )
    lazy = [name for name, weight in layer.named_parameters() if _is_lazy(weight)]
    if lazy:
        raise ConfigError(
            f"{own.item(number, _about(layer))} has the weight {lazy[0]}, whose shape "
            "isn't known yet; give it its width, instead of a lazy module or -1"
        )
    if isinstance(layer, Rows):
        try:
            layer.fit(width)
        except Exception as error:
            raise ConfigError(
                f"{own.item(number, _about(layer))} can't take rows of {width} columns, and "
                f"{source} ({type(error).__name__}: {shown(str(error))})"
            ) from error
    for name in ("in_features", "out_features"):
        if not isinstance(getattr(layer, name, None), int):
            raise ConfigError(f"{own.item(number, _about(layer))} has no {name}; set it in __init__")
    if layer.in_features != width:
        raise ConfigError(
            f"{own.item(number, _about(layer))} reads rows of {layer.in_features} columns, "
            f"and {source}; make the two alike"
        )


def _check_first(own: OwnModel, layer: Layer) -> None:
    if own.sparse_features and not layer.sparse_input:
        raise ConfigError(
            f"model: the features are sparse, and item 0 of {own.name} ({_about(layer)}) would need them "
            "dense; begin with gnnpipe.nn.Rows(nn.Linear(num_features, hidden))"
        )


def _check_whole(own: OwnModel, items: list[Item]) -> None:
    if not any(item.aggregates for item in items):
        raise ConfigError(
            f"model: none of the {len(items)} items of {own.name} reads neighbours; yield a convolution, as "
            "in yield lambda: gnnpipe.nn.Conv(...)"
        )
    last = items[-1]
    if last.out_features != own.num_classes:
        raise ConfigError(
            f"model: item {len(items) - 1}, the last of {own.name} ({last.about}), makes "
            f"{last.out_features} columns, and the graph needs {own.num_classes}; end with "
            "rows of num_classes columns"
        )


def _normalization_of(own: OwnModel, items: list[Item]) -> Normalization:
    """The adjacency that the layers want; raises ConfigError where they want two."""
    wanted: Normalization | None = None
    first = 0
    for number, item in enumerate(items):
        if item.normalization is None:
            continue
        if wanted is not None and item.normalization != wanted:
            raise ConfigError(
                f"model: item {first} of {own.name} ({items[first].about}) wants the adjacency "
                f"'{wanted}', and item {number} ({item.about}) '{item.normalization}'; all layers of a model "
                "share one"
            )
        wanted, first = wanted or item.normalization, first if wanted else number
    return wanted or USUAL


def check_layers(own: OwnModel) -> None:
    """Try each kind of layer on a few rows, with weights, before any rank starts.

    Raises:
        ConfigError: one can't run in chunks; the message says why, and the cure.
    """
    tried = set[str]()
    for number, factory in enumerate(factories(own)):
        item = outline_of(own).items[number]
        with torch.device("meta"):
            layer = built(own, number, factory, 0)
        kind = f"{type(layer).__module__}.{layer!r}.{item.in_features}"
        if kind in tried:
            continue
        tried.add(kind)
        layer = built(own, number, factory, 0)
        _fit(own, layer, number, item.in_features, outline_of(own).items[:number])
        try:
            _check(own, layer.conv if isinstance(layer, Jump) else layer)
        except ConfigError as error:
            raise ConfigError(f"{own.item(number, item.about)} {error}") from error


def _check(own: OwnModel, layer: Layer) -> None:
    kinds = EdgeKinds(own.edge_dim, own.num_edge_types)
    if isinstance(layer, Rows):
        check_rows(layer)
    elif isinstance(layer, Conv):
        layer.settle(kinds)
    elif isinstance(layer, BlockLayer):
        check_block_layer(layer, kinds, outline_of(own).normalization)


def _about(layer: Layer) -> str:
    """A layer as it prints, on one line."""
    return shown(repr(layer), 80)


def _is_lazy(weight: torch.Tensor) -> bool:
    return isinstance(weight, UninitializedParameter)
