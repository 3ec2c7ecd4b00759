"""Reversible blocks in float64: rows that are made again, and gradients from them, are those of autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.gen import GenLayer
from gnnpipe.nn.layers.resgcn import ResGcnLayer
from gnnpipe.nn.layers.wrappers.coupling import Coupling, CouplingRunner
from gnnpipe.nn.runners import runner_of

NODES, COLUMNS, BLOCKS = 12, 5, 4
KINDS: dict[str, Callable[[torch.Generator], Layer]] = {
    "resgcn": lambda g: ResGcnLayer(COLUMNS, g, "layer", "none"),
    "resgcn without norm": lambda g: ResGcnLayer(COLUMNS, g, "none", "none"),
    "gen": lambda g: GenLayer(COLUMNS, g, "layer", "none"),
}


def adjacency() -> Tensor:
    """Not symmetric, so that a transpose too many or too few is seen; all entries are above 0."""
    return torch.rand(NODES, NODES, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / NODES


def drop_of(number: int) -> Dropout:
    return Dropout(0.25, dropout_key(0, 0, number), torch.arange(NODES))


def autograd_rows(layers: list[Layer], h: Tensor, groups: int) -> Tensor:
    """``y_0 = x_2 + ... + x_G`` and ``y_i = x_i + f_i(y_{i - 1})``, as in arXiv 2106.07476, section 3.2."""
    A = adjacency()
    for block in range(BLOCKS):
        x = list(h.split(COLUMNS, dim=1))
        y, found = torch.stack(x[1:]).sum(dim=0), []
        for group in range(groups):
            number = block * groups + group
            message, carry = layers[number].message(y, drop_of(number))
            y = x[group] + layers[number].update(A @ message, carry, None)
            found.append(y)
        h = torch.cat(found, dim=1)
    return h


def forward(runner: CouplingRunner, number: int, h: Tensor) -> Tensor:
    """The output rows alone: whatever is saved is gone."""
    saved, x, out = runner.saved(drop_of(number), []), h.new_empty(NODES, width(runner)), torch.empty_like(h)
    runner.forward_message(saved, h, x)
    runner.forward_update(saved, adjacency() @ x, None, out)
    return out


def back(runner: CouplingRunner, number: int, out: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The input rows and their gradient, from the output rows and theirs."""
    saved, x, h = (
        runner.saved(drop_of(number), []),
        out.new_empty(NODES, width(runner)),
        torch.empty_like(out),
    )
    runner.forward_message(saved, out, x)
    runner.revert(saved, adjacency() @ x, h)
    z_gradient, h_gradient = torch.empty_like(x), torch.empty_like(h)
    runner.backward_update(saved, gradient.clone(), z_gradient, None)
    runner.backward_message(saved, adjacency().T @ z_gradient, h_gradient)
    for product in saved.products:
        product.add()
    return h, h_gradient


def width(runner: CouplingRunner) -> int:
    assert runner.layer.width is not None
    return runner.layer.width


@pytest.mark.parametrize("groups", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_gradients_from_the_output_alone_are_autograds(kind: str, groups: int) -> None:
    g = torch.Generator().manual_seed(groups)
    layers = [KINDS[kind](g).double() for _ in range(BLOCKS * groups)]
    runners = [
        runner_of(Coupling(layer, number % groups, groups), "any") for number, layer in enumerate(layers)
    ]
    rows = torch.randn(NODES, groups * COLUMNS, dtype=torch.float64, generator=g, requires_grad=True)
    expected = autograd_rows(layers, rows, groups)
    gradient = torch.randn(expected.shape, dtype=torch.float64, generator=g)
    weights = [weight for layer in layers for weight in layer.parameters()]
    of_rows, *of_weights = torch.autograd.grad(expected, [rows, *weights], gradient)

    with torch.no_grad():
        h = rows.detach()
        for number, runner in enumerate(runners):
            runner.make_room()
            h = forward(runner, number, h)
        same(h, expected.detach())
        for number, runner in reversed(list(enumerate(runners))):
            h, gradient = back(runner, number, h, gradient)
    same(h, rows.detach())
    same(gradient, of_rows)
    for weight, theirs in zip(weights, of_weights, strict=True):
        assert weight.grad is not None
        same(weight.grad, theirs)


def same(ours: Tensor, theirs: Tensor) -> None:
    # 2^-53 for each of some hundred additions, and for each of up to 16 layers that pass an error on
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12 * max(1.0, float(theirs.abs().max())))
