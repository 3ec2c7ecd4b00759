"""The optimiser, gradient clipping over all stages, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gnnpipe.config.resolved import OptimizerSettings
from gnnpipe.nn.layer import Layer


def make_optimizer(
    modules: nn.Module, config: OptimizerSettings, lr: float, weight_decay: float
) -> Optimizer:
    """Adam or AdamW over one stage's weights; the dense ends may have a weight decay of their own.

    Frozen weights, which some convolutions of torch_geometric have, are left out: weight decay would move
    them, although their gradients are 0. A stage may be without weights.
    """
    ends = [layer for layer in modules.children() if isinstance(layer, Layer) and layer.width is None]
    dense = [weight for layer in ends for weight in layer.parameters() if weight.requires_grad]
    dense_ids = {id(weight) for weight in dense}
    learnt = [weight for weight in modules.parameters() if weight.requires_grad]
    convolutional = [weight for weight in learnt if id(weight) not in dense_ids]
    dense_decay = weight_decay if config.dense_weight_decay is None else config.dense_weight_decay
    groups = [
        {"params": weights, "weight_decay": decay}
        for weights, decay in ((convolutional, weight_decay), (dense, dense_decay))
        if weights
    ]
    # on a GPU one kernel steps all weights
    fused = all(weight.is_cuda for weight in learnt) and bool(groups)
    made = AdamW if config.name == "adamw" else Adam
    return made(groups or [{"params": []}], lr=lr, betas=config.betas, fused=fused)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all weights."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradients(
    modules: nn.Module,
    limit: float,
    gather: Callable[[list[float]], list[list[float]]],
    counted: Iterable[nn.Parameter] | None = None,
) -> float:
    """Scale gradients so that their norm over the weights of all stages is at most ``limit``.

    Each weight's sum of squares travels by itself, and they are added without rounding (`math.fsum`): the
    norm is the same to the last bit however layers are cut into stages.

    Args:
        modules: layers of this rank.
        limit: largest norm.
        gather: hands every rank's squares to every rank.
        counted: weights of this rank that no other rank counts; by default all.

    Returns:
        the norm before scaling.
    """
    gradients = [weight.grad for weight in modules.parameters() if weight.grad is not None]
    mine = modules.parameters() if counted is None else counted
    sums = [weight.grad.double().square().sum() for weight in mine if weight.grad is not None]
    squares = torch.stack(sums).tolist() if sums else []  # read at once: each read waits for the device
    norm = math.sqrt(math.fsum(square for of_rank in gather(squares) for square in of_rank))
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
    return norm


class AveragedWeights:
    """An exponential moving average of a module's weights, with which evaluation can replace them.

    Args:
        modules: module whose weights are averaged.
        decay: share of the old average in the new one; 0 for no average: the weights themselves.
    """

    def __init__(self, modules: nn.Module, decay: float) -> None:
        self._modules = modules
        self._average = (
            AveragedModel(modules, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay > 0 else None
        )

    def update(self) -> None:
        """Add the weights of a finished epoch to the average."""
        if self._average is not None:
            self._average.update_parameters(self._modules)

    def state(self) -> dict[str, Tensor]:
        """The averaged weights by name; an empty dict without an average."""
        return {} if self._average is None else _tensors(self._average.module)

    def restore(self, values: dict[str, Tensor], epochs: int) -> None:
        """Go on from the averages of another run, or from its weights if it had none.

        Args:
            values: averages as `state` returns them.
            epochs: number of epochs in them.
        """
        if self._average is not None:
            _assign(self._average.module, values or _tensors(self._modules))
            self._average.n_averaged.fill_(epochs)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averaged weights into the module, and its own back afterwards."""
        if self._average is None:
            yield
            return
        own = _tensors(self._modules)
        try:
            _assign(self._modules, _tensors(self._average.module))
            yield
        finally:
            _assign(self._modules, own)


def _tensors(modules: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in modules.named_parameters()}


@torch.no_grad()
def _assign(modules: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in modules.named_parameters():
        parameter.copy_(values[name])
