"""The items of a model's list: factories, and the layers that they build."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from gnnpipe.errors import ConfigError, UserError, shown
from gnnpipe.nn.conv import Conv
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.own.arguments import OwnModel, arguments_of
from gnnpipe.nn.own.code import load_function, told
from gnnpipe.nn.own.rows import Rows

Factory = Callable[[], Any]
MOST_LAYERS = 100_000


def factories(own: OwnModel) -> Iterator[Factory]:
    """The factories of a model's layers, in order.

    The function goes on only when the next one is asked for: a factory that is called before sees the
    variables of a loop as they were when it was yielded, which ``lambda:`` does not keep.

    Raises:
        ConfigError: the function fails, or gives anything but factories.
    """
    function = load_function(own.model, own.checksum)
    try:
        given = iter(function(**arguments_of(function, own)))
    except ConfigError:
        raise
    except TypeError as error:
        raise ConfigError(
            f"model: {own.name} gives no list of layers ({told(error, function)}); yield factories, as in "
            "yield lambda: gnnpipe.nn.Rows(...)"
        ) from error
    except Exception as error:
        raise ConfigError(f"model: {own.name} failed ({told(error, function)})") from error
    for number in range(MOST_LAYERS):
        try:
            with _with_numbers():
                factory = next(given, None)
        except Exception as error:
            raise ConfigError(
                f"model: {own.name} failed at item {number} ({told(error, function)})"
            ) from error
        if factory is None:
            return
        _check_factory(own, number, factory)
        yield factory
    raise ConfigError(f"model: {own.name} yields more than {MOST_LAYERS:,} layers; does it end?")


def _check_factory(own: OwnModel, number: int, factory: Any) -> None:
    if isinstance(factory, nn.Module):
        raise ConfigError(
            f"{own.item(number)} is a {type(factory).__name__} that is built already, and "
            f"every process would build all of them; write yield lambda: {type(factory).__name__}(...)"
        )
    if not callable(factory):
        raise ConfigError(
            f"{own.item(number)} is '{shown(factory)}' ({type(factory).__name__}); yield "
            "factories, as in yield lambda: gnnpipe.nn.Rows(...)"
        )


def built(own: OwnModel, number: int, factory: Factory, seed: int) -> Layer:
    """Build a layer; its weights are a function of the seed alone.

    Raises:
        ConfigError: the factory fails, or makes no layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = _made(factory)
        except UserError as error:
            raise ConfigError(f"{own.item(number)}: {error}") from error
        except Exception as error:
            raise ConfigError(f"{own.item(number)} can't be built ({told(error, factory)})") from error
    return _as_layer(own, number, made)


def _made(factory: Factory) -> Any:
    """Call a factory. On the meta device one that looks at numbers, as PNAConv does, builds on the CPU,
    and its layer is moved."""
    try:
        return factory()
    except Exception:
        if not _has_no_numbers():
            raise
    with torch.device("cpu"):
        made = factory()
    return made.to("meta") if isinstance(made, nn.Module) else made


def _has_no_numbers() -> bool:
    return torch.get_default_device().type == "meta"


def _with_numbers() -> AbstractContextManager[object]:
    """A model's function may make tensors between its layers, and look at them."""
    return torch.device("cpu") if _has_no_numbers() else nullcontext()


def _as_layer(own: OwnModel, number: int, made: Any) -> Layer:
    """A layer of what a factory has made: itself, a convolution, or modules that work row by row."""
    if isinstance(made, Layer):
        return made
    if isinstance(made, nn.Module) and _is_convolution(made):
        return Conv(made)
    if isinstance(made, nn.Module):
        inside = next((type(module).__name__ for module in made.modules() if _is_convolution(module)), None)
        if inside is None:
            return Rows(made)
        raise ConfigError(
            f"{own.item(number)}, a {type(made).__name__}, has the convolution {inside} "
            "inside, whose neighbours its forward would have to be given; list its parts one by one: "
            f"gnnpipe.nn.Conv({inside}(...), norm=..., act=..., skip=True), and gnnpipe.nn.Rows(...)"
        )
    raise ConfigError(
        f"{own.item(number)} builds a {type(made).__name__}; build a layer of gnnpipe.nn, an "
        "nn.Module that works row by row, or a convolution of torch_geometric"
    )


def _is_convolution(module: nn.Module) -> bool:
    """Whether it is a MessagePassing; if so, torch_geometric is imported already."""
    loaded = sys.modules.get("torch_geometric.nn.conv.message_passing")
    return loaded is not None and isinstance(module, loaded.MessagePassing)
