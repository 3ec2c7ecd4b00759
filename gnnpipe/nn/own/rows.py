"""Rows: modules that work row by row, as a layer without aggregation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gnnpipe.errors import ConfigError
from gnnpipe.nn.batch_norm import BatchNorm, convert_batch_norms
from gnnpipe.nn.features import FeatureRows, SparseRows, project
from gnnpipe.nn.layer import Drop, Layer

NUM_ROWS = 5
"""Rows that a probe goes through."""


class Rows(Layer):
    """``h' = modules(dropout(h))``, row by row: ``nn.Linear``, norms, activations, or any module of one's own
    whose output rows each depend on one input row.

    Shapes: ``[n, in_features] -> [n, out_features]``. Widths are found by running the modules (`fit`).

        Rows(nn.Linear(64, 128), nn.LayerNorm(128), nn.ReLU(), dropout=0.5)

    Args:
        modules: applied one after the other; ``nn.BatchNorm1d`` becomes ours, which knows of
            chunks. In a model's first layer a leading ``nn.Linear`` multiplies sparse features as they are.
        dropout: probability that an entry of the input rows is dropped; None for the run's.
    """

    def __init__(self, *modules: nn.Module, dropout: float | None = None) -> None:
        super().__init__()
        for module in modules:
            if not isinstance(module, nn.Module):
                raise TypeError(f"Rows takes modules, as in Rows(nn.Linear(8, 4), nn.ReLU()), not {module!r}")
        self.body = nn.ModuleList(convert_batch_norms(module) for module in modules)
        self.drop_rate = dropout
        self.relu = bool(modules) and isinstance(modules[-1], nn.ReLU)
        self.sparse_input = _leading(self.body) is not None

    def fit(self, in_features: int) -> None:
        """Find the width of the output rows by running the modules.

        Raises:
            RuntimeError, ValueError, TypeError: a module can't take rows of that width.
        """
        device = next((weight.device for weight in self.parameters()), torch.device("cpu"))
        training = self.training
        with torch.no_grad():
            out = self.eval()._run(torch.zeros(2, in_features, device=device))
        self.train(training)
        if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != 2:
            raise ValueError(f"it makes {_told(out)} of 2 rows; a row of output is needed for each row")
        self.in_features, self.out_features = in_features, out.shape[1]

    def message(self, h: FeatureRows, drop: Drop) -> tuple[None, Tensor]:
        """No rows to aggregate; all modules run here."""
        rows = drop(h)
        if isinstance(rows, Tensor):
            return None, self._run(rows)
        return None, self._run_sparse(rows)

    def update(self, z: None, carry: Tensor, h0: object) -> Tensor:
        """Nothing: `message` has made the output rows."""
        return carry

    def _run(self, rows: Tensor) -> Tensor:
        for module in self.body:
            rows = module(rows)
        return rows

    def _run_sparse(self, rows: SparseRows) -> Tensor:
        """The modules on sparse features, which the leading ``nn.Linear`` multiplies."""
        rest = _flat(self.body)
        linear = rest.pop(0)
        assert isinstance(linear, nn.Linear)  # `sparse_input` is False otherwise, and such rows are refused
        out = project(rows, linear.weight.t())
        out = out if linear.bias is None else out + linear.bias
        for module in rest:
            out = module(out)
        return out

    def __repr__(self) -> str:
        """One line, as it is written."""
        parts = [" ".join(repr(module).split()) for module in self.body]
        rate = [] if self.drop_rate is None else [f"dropout={self.drop_rate}"]
        return f"Rows({', '.join([*parts, *rate])})"


def check_rows(layer: Rows) -> None:
    """Check by a probe that a row of output depends on its own row of input alone, and on nothing random.

    Args:
        layer: with weights on a CPU, after `Rows.fit`.

    Raises:
        ConfigError: rows depend on each other, or on random numbers.
    """
    layer.train()
    for module in layer.modules():
        if isinstance(module, BatchNorm):  # those know of chunks, and count rows where they are to
            module.eval()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(NUM_ROWS, layer.in_features, generator=generator)
    some = torch.tensor([3, 1, 4])
    buffers = {name: value.clone() for name, value in layer.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        whole, again = layer._run(rows), layer._run(rows)
        part = layer._run(rows[some])
    if not torch.equal(whole, again):
        raise ConfigError(
            "draws random numbers in training, such as those of nn.Dropout, which would not be the same in "
            "each plan; leave that out and give Rows(..., dropout=0.5), which drops entries of the input rows"
        )
    scale = float(whole.abs().max()) if whole.numel() else 0.0
    if not torch.allclose(part, whole[some], rtol=1e-3, atol=1e-4 * max(scale, 1e-3)):
        raise ConfigError(
            "makes rows that depend on other rows, which are in other chunks of the graph; use modules that "
            "work row by row, such as nn.LayerNorm"
        )
    changed = [name for name, value in layer.named_buffers() if not torch.equal(value, buffers[name])]
    if changed:
        raise ConfigError(
            f"changes its buffer {changed[0].removeprefix('body.')} when it runs, which would depend on the "
            "plan; use modules without such a state"
        )


def _flat(modules: nn.ModuleList) -> list[nn.Module]:
    """The modules in order, with those of a leading ``nn.Sequential`` in its place."""
    found = list(modules)
    while found and type(found[0]) is nn.Sequential:
        found[:1] = list(found[0])
    return found


def _leading(modules: nn.ModuleList) -> nn.Linear | None:
    first = next(iter(_flat(modules)), None)
    return first if type(first) is nn.Linear else None


def _told(out: object) -> str:
    return f"a tensor {list(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
