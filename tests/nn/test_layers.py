"""Derivatives that are written out equal those that autograd finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.config.run import Norm, Residual
from gnnpipe.graph.csr import Csr
from gnnpipe.nn.autograd import Autograd
from gnnpipe.nn.dropout import ChunkMasks, Dropout, dropout_key
from gnnpipe.nn.features import FeatureRows, SparseRows
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.layers.dense import Dense
from gnnpipe.nn.layers.gcn import GcnLayer
from gnnpipe.nn.layers.gcnii import GcniiLayer
from gnnpipe.nn.layers.gin import GinLayer
from gnnpipe.nn.layers.resgcn import ResGcnLayer
from gnnpipe.nn.layers.sage import SageLayer
from gnnpipe.nn.layers.wrappers.extras import Extras
from gnnpipe.nn.runners import runner_of
from gnnpipe.nn.running import AnyRunner, InputRows, WeightProduct

ROWS, HIDDEN = 30, 6


@dataclass
class Derived:
    """Everything that comes out of a layer in both directions."""

    out: Tensor
    z_gradient: Tensor | None
    h_gradient: Tensor | None
    h0_gradient: Tensor
    weights: dict[str, Tensor]


def derive(runner: AnyRunner, h: FeatureRows, drop: Dropout) -> Derived:
    """Forward and backward."""
    generator, layer = torch.Generator().manual_seed(1), runner.layer
    x = None if layer.width is None else torch.empty(ROWS, layer.width)
    A = torch.randn(ROWS, ROWS, generator=generator)
    products: list[WeightProduct] = []
    saved = runner.saved(drop, products)
    h0 = torch.randn(ROWS, HIDDEN, generator=generator)
    out = torch.empty(ROWS, layer.out_features)
    layer.zero_grad()
    runner.make_room()
    runner.prepare()
    with torch.no_grad():
        runner.forward_message(saved, h, x)
        z = None if x is None else A @ x
        mix = runner.mix(h0)
        if z is not None and mix is not None:
            z = (1 - mix.alpha) * z + mix.alpha * mix.rows
        runner.forward_update(saved, z, h0, out)
        z_gradient = None if x is None else torch.empty_like(x)
        h0_gradient = torch.ones(ROWS, HIDDEN)
        wants_h0 = isinstance(layer, GcniiLayer)
        gradient = torch.randn(ROWS, layer.out_features, generator=generator)
        if getattr(layer, "relu", False) or wants_h0:  # as the layer behind hands it back
            gradient[out == 0] = 0
        runner.backward_update(saved, gradient, z_gradient, h0_gradient if wants_h0 else None)
        h_gradient = torch.empty(ROWS, layer.in_features) if isinstance(h, Tensor) else None
        x_gradient = None if z_gradient is None else A.T @ z_gradient
        runner.backward_message(saved, x_gradient, h_gradient)
        for product in products:
            product.add()
    weights = {name: weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}
    assert weights.keys() == {name for name, _ in layer.named_parameters()}
    return Derived(out, z_gradient, h_gradient, h0_gradient, weights)


def same(layer: Layer, h: FeatureRows, rate: float, rows: InputRows) -> None:
    drop = Dropout(rate, dropout_key(1, 2, 3), torch.arange(ROWS) + 7)
    written_out = runner_of(layer, rows)
    assert not isinstance(written_out, Autograd)
    ours, reference = (derive(runner, h, drop) for runner in (written_out, Autograd(layer)))
    torch.testing.assert_close(ours.out, reference.out)
    torch.testing.assert_close(ours.z_gradient, reference.z_gradient)
    torch.testing.assert_close(ours.h0_gradient, reference.h0_gradient)
    for name, weight in reference.weights.items():
        torch.testing.assert_close(ours.weights[name], weight, atol=1e-5, rtol=1e-5)  # sums of 30 terms
    if ours.h_gradient is not None:
        assert reference.h_gradient is not None
        assert isinstance(h, Tensor)
        # the ReLU in front lets nothing through where its output is 0, whatever stands there; elsewhere sums
        # of 30 terms
        seen = h > 0 if rows == "relu" else torch.ones_like(h, dtype=torch.bool)
        torch.testing.assert_close(ours.h_gradient[seen], reference.h_gradient[seen], atol=1e-5, rtol=1e-5)
        assert ours.h_gradient.isfinite().all()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


BEHIND_RELU: dict[str, Callable[[], Layer]] = {
    "gcn": lambda: GcnLayer(HIDDEN, 9, generator()),
    "gcn, narrower": lambda: GcnLayer(HIDDEN, 3, generator()),
    "gcn, last": lambda: GcnLayer(HIDDEN, 3, generator(), relu=False),
    "sage": lambda: SageLayer(HIDDEN, 9, generator()),
    "sage, narrower": lambda: SageLayer(HIDDEN, 3, generator(), relu=False),
    "gcnii": lambda: GcniiLayer(HIDDEN, 3, 0.1, 0.5, generator()),
    "gcnii, nothing but initial rows": lambda: GcniiLayer(HIDDEN, 1, 1.0, 0.5, generator()),
    "output": lambda: Dense(HIDDEN, 4, generator()),
    "gin": lambda: drawn(GinLayer(HIDDEN, 9, generator())),
    "gin, narrower": lambda: drawn(GinLayer(HIDDEN, 3, generator(), relu=False)),
}
KINDS: dict[str, Callable[[Extras, int], Layer]] = {
    "gcn": lambda extras, out: GcnLayer(HIDDEN, out, generator(), extras=extras),
    "sage": lambda extras, out: SageLayer(HIDDEN, out, generator(), extras=extras),
    "gin": lambda extras, out: drawn(GinLayer(HIDDEN, out, generator(), extras=extras)),
    "gcnii": lambda extras, out: GcniiLayer(HIDDEN, 3, 0.1, 0.5, generator(), extras),
}
NORMS: tuple[Norm, ...] = ("none", "layer", "batch")
RESIDUALS: tuple[Residual, ...] = ("none", "identity", "linear")


def drawn(layer: Layer) -> Layer:
    """With drawn numbers where weights begin at 0 or 1."""
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator()), alpha=0.3)
    return layer


BEHIND_NOTHING: dict[str, Callable[[], Layer]] = {
    "resgcn": lambda: ResGcnLayer(HIDDEN, generator()),
    "resgcn, batch norm": lambda: drawn(ResGcnLayer(HIDDEN, generator(), "batch")),
    "output with norm": lambda: Dense(HIDDEN, 4, generator(), pre_norm="layer"),
    "output with batch norm": lambda: drawn(Dense(HIDDEN, 4, generator(), pre_norm="batch")),
}
ON_SPARSE: dict[str, Callable[[], Layer]] = {
    "gcn": lambda: GcnLayer(40, 9, generator(), sparse_input=True),
    "sage": lambda: SageLayer(40, 9, generator(), sparse_input=True),
    "gin": lambda: GinLayer(40, 9, generator(), sparse_input=True),
    "gcn, linear": lambda: GcnLayer(40, 9, generator(), sparse_input=True, extras=Extras("layer", "linear")),
    "gin, linear": lambda: GinLayer(40, 9, generator(), sparse_input=True, extras=Extras("batch", "linear")),
    "input": lambda: Dense(40, HIDDEN, generator(), relu=True),
}


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("name", BEHIND_RELU)
def test_behind_a_relu(name: str, rate: float) -> None:
    same(BEHIND_RELU[name](), torch.randn(ROWS, HIDDEN, generator=generator()).relu(), rate, "relu")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("columns", [HIDDEN, 3])
@pytest.mark.parametrize("name", KINDS)
def test_extras(name: str, columns: int, residual: Residual, norm: Norm) -> None:
    layer = drawn(KINDS[name](Extras(norm, residual), columns))
    same(layer, torch.randn(ROWS, HIDDEN, generator=generator()).relu(), 0.5, "relu")


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("name", BEHIND_NOTHING)
def test_on_any_rows(name: str, rate: float) -> None:
    same(BEHIND_NOTHING[name](), torch.randn(ROWS, HIDDEN, generator=generator()), rate, "any")


@pytest.mark.parametrize("name", ON_SPARSE)
def test_on_sparse_features(name: str) -> None:
    features = Csr.from_scipy(sp.random(ROWS, 40, 0.2, format="csr", random_state=0))
    same(ON_SPARSE[name](), SparseRows.from_csr(features), 0.5, "features")


def test_masks_of_several_layers_are_those_of_each() -> None:
    nodes, keys = torch.arange(50) * 3, [dropout_key(0, 0, layer) for layer in range(7)]
    masks = ChunkMasks(nodes, 12, torch.tensor(keys))
    masks._batch = 3  # several hashes for seven layers
    rows = torch.rand(50, 12) + 0.1
    for layer in (0, 1, 2, 4, 6):  # a stage may ask for some only
        out = torch.empty_like(rows)
        Dropout(0.4, keys[layer], nodes, masks.bits(layer)).into(rows, out)
        assert torch.equal(out, Dropout(0.4, keys[layer], nodes)(rows))
