"""A copy of a convolution that gives the same numbers whenever it is run, to compare its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gnnpipe.nn.conv.probe import M, on_cpu


def still(conv: M, dtype: torch.dtype, *, training: bool) -> M:
    """A copy without dropout, whose weights are moved a little; batch norms normalise by random constants.

    Weights that begin at 0 or 1 hide what they multiply. The generator of the process draws.
    """
    twin = on_cpu(conv).to(dtype).train(training)
    with torch.no_grad():
        for weight in twin.parameters():
            if weight.is_floating_point():
                weight.add_(0.05 * torch.randn(weight.shape, dtype=torch.float64).to(dtype))
    for module in twin.modules():
        _stop_dropping(module)
        if is_batch_norm(module):
            _normalize_by_constants(module)
    return twin


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module normalises by statistics over rows, PyTorch's classes as well as ours."""
    return isinstance(getattr(module, "running_mean", None), Tensor) and hasattr(module, "running_var")


@contextmanager
def counting(conv: nn.Module) -> Iterator[list[int]]:
    """Count the rows that each batch norm inside sees: a list that is filled in the meantime."""
    norms = [module for module in conv.modules() if is_batch_norm(module)]
    counts = [0] * len(norms)

    def counter(index: int) -> object:
        def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            counts[index] += given[0].shape[0]

        return norms[index].register_forward_pre_hook(count)

    hooks = [counter(index) for index in range(len(norms))]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()  # type: ignore[attr-defined]


def _stop_dropping(module: nn.Module) -> None:
    """Set every rate of dropout to 0: that of PyTorch's modules, and of attributes with such a name."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        module.p = 0.0
    for name, value in vars(module).items():
        if "drop" in name and isinstance(value, float):
            setattr(module, name, 0.0)


def _normalize_by_constants(norm: nn.Module) -> None:
    norm.eval()
    with torch.no_grad():
        for name, low in (("running_mean", -0.5), ("running_var", 0.5)):
            buffer = getattr(norm, name)
            buffer.copy_(torch.rand(buffer.shape) + low)
