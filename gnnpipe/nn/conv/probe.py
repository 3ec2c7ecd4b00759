"""Facts about a convolution that its class does not tell: found by running a copy of it on four nodes."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gnnpipe.errors import shown
from gnnpipe.nn.conv.call import Call, Refused

M = TypeVar("M", bound=nn.Module)
NUM_NODES = 4
# Attributes in which convolutions keep the width of their input rows, and that of features of edges.
WIDTHS = ("in_channels", "channels", "in_features")
EDGE_WIDTHS = ("edge_dim", "in_edge_channels", "dim")
# Without such an attribute, widths are guessed from shapes of weights, at most so many.
MOST_GUESSES = 12


@dataclass(frozen=True)
class Widths:
    """Widths of a convolution, found by running it on a few rows."""

    in_features: int
    out_features: int
    draws: bool
    """Whether it draws random numbers in training."""


@contextmanager
def aside(seed: int = 0) -> Iterator[None]:
    """Try something on the CPU, with autograd, without a trace in the generator of the process."""
    with (
        torch.random.fork_rng([]),
        torch.device("cpu"),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        torch.default_generator.manual_seed(seed)
        yield


def on_cpu(module: M) -> M:
    """A copy on the CPU; weights that have shapes alone (on the meta device) become random numbers."""
    if not any(tensor.is_meta for tensor in _tensors(module)):
        return copy.deepcopy(module).cpu()
    twin = copy.deepcopy(module).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in _tensors(twin):
            # positive, as variances are
            tensor.uniform_(0.5, 1.5) if tensor.is_floating_point() else tensor.fill_(1)
    return twin


def probe(conv: nn.Module, call: Call, in_features: int | None) -> Widths:
    """Find the widths of a convolution.

    Args:
        conv: the convolution, also on the meta device.
        call: arguments that its forward takes.
        in_features: columns of its input rows, if the user has said it.

    Raises:
        Refused: it has no weights yet, it ran with no width that was tried, or its output is no rows.
    """
    if any(is_lazy(weight) for weight in conv.parameters()):
        raise Refused(
            "its weights are made at its first batch (in_channels=-1): give it the number of columns of its "
            "input rows"
        )
    first_error: Exception | None = None
    with aside():
        twin = on_cpu(conv).float().train()
        for width in [in_features] if in_features is not None else _guesses(twin):
            for edge_width in _edge_guesses(twin, call, width):
                try:
                    return _run(twin, call, width, edge_width)
                except Refused:
                    raise
                except Exception as error:  # whatever a class that is not ours raises
                    first_error = first_error or error
    raise Refused(_no_width(in_features, first_error))


def quoted(error: Exception) -> str:
    """An exception on one line; one without words, as of ``assert``, with the line that raised it."""
    text = shown(str(error)) or (traceback.extract_tb(error.__traceback__)[-1].line or "")
    return f"{type(error).__name__}: {text}"


def _no_width(in_features: int | None, error: Exception | None) -> str:
    if error is None:
        return "it has no weights that tell the number of columns of its input rows: say in_features="
    if in_features is None:
        return f"it can't be run to see its widths: {quoted(error)}; say in_features= if none fits"
    return f"it can't be run on rows of in_features={in_features} columns: {quoted(error)}"


@dataclass(frozen=True)
class _Extras:
    weight: Tensor
    attr: Tensor | None
    type: Tensor | None


def _run(twin: nn.Module, call: Call, width: int, edge_width: int | None) -> Widths:
    source = torch.arange(NUM_NODES)
    edge_index = torch.stack([source.roll(1), source])
    rows = torch.rand(NUM_NODES, width, dtype=torch.float32)
    attr = None if edge_width is None else torch.rand(NUM_NODES, edge_width, dtype=torch.float32)
    extras = _Extras(
        torch.ones(NUM_NODES, dtype=torch.float32), attr, torch.zeros(NUM_NODES, dtype=torch.int64)
    )
    before = torch.get_rng_state()
    out = call(twin, rows, edge_index, extras, (NUM_NODES, NUM_NODES))
    draws = not torch.equal(before, torch.get_rng_state()) or _drops(twin)
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != NUM_NODES:
        made = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise Refused(f"its output should be one tensor [nodes, columns], and is {made}")
    return Widths(width, out.shape[1], draws)


def _drops(conv: nn.Module) -> bool:
    """Whether a module inside has dropout, which it may skip on so few nodes."""
    return any(isinstance(inner, nn.modules.dropout._DropoutNd) and inner.p > 0 for inner in conv.modules())


def _guesses(conv: nn.Module) -> list[int]:
    """Widths of input rows to try, likely ones first."""
    found = [width for name in WIDTHS for width in _widths(getattr(conv, name, None))]
    shapes = _sizes(conv)
    # a network on pairs of rows is twice or three times as wide as they are
    found += shapes + [size // part for part in (2, 3) for size in shapes if size % part == 0]
    return list(dict.fromkeys(found))[:MOST_GUESSES]


def _edge_guesses(conv: nn.Module, call: Call, width: int) -> list[int | None]:
    """Widths of edges' features to try; None stands for edges without features."""
    if "edge_attr" not in call.takes:
        return [None]
    found: list[int | None] = [] if "edge_attr" in call.needs else [None]
    found += [size for name in EDGE_WIDTHS for size in _widths(getattr(conv, name, None))]
    found += [*_sizes(conv), width, 1, 2, 3]
    return list(dict.fromkeys(found))[:MOST_GUESSES]


def _widths(value: object) -> list[int]:
    """The positive whole number that an attribute is; or that of a pair, whose numbers must agree."""
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    return [value] if isinstance(value, int) and not isinstance(value, bool) and value > 0 else []


def _sizes(conv: nn.Module) -> list[int]:
    """Sizes of its weights, inner ones first: those of inputs, as `nn.Linear` keeps them."""
    shapes = [weight.shape for weight in conv.parameters()]
    return list(dict.fromkeys(size for shape in shapes if len(shape) > 1 for size in reversed(shape)))


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
