"""The batch norms of a stage: what their statistics are of, and their sums over chunks and parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gnnpipe.comm.groups import Links
from gnnpipe.comm.weights import sum_small
from gnnpipe.engine.chunks import TileSizes
from gnnpipe.nn.batch_norm import BatchNorm, EpochOfNorms
from gnnpipe.nn.models import LayerSpec

# With one chunk the statistics are of all its rows, so that it is one tile.
ONE_TILE = TileSizes(least_border=2**62, most=2**62)


class BatchNorms:
    """The batch norms among a stage's layers.

    # one chunk       F0: statistics, summed over the parts at once | B0: so are those of the gradient
    # several chunks  F0 F1 F2: normalise by last epoch's, add up | B.. | sum over the parts, turn over

    Args:
        modules: layers of the stage.
        num_chunks: number of chunks.
        num_parts: number of parts of the stage.
        links: connections to them.
    """

    def __init__(self, modules: nn.Module, num_chunks: int, num_parts: int, links: Links) -> None:
        self._norms = [module for module in modules.modules() if isinstance(module, BatchNorm)]
        self._num_parts, self._links = num_parts, links
        self._epoch = EpochOfNorms(whole=num_chunks == 1)
        if num_parts > 1:
            self._epoch.reduce = self._sum
        for norm in self._norms:
            norm.run_by(self._epoch)

    def begin_epoch(self) -> None:
        """Begin to count."""
        self._epoch.counts = True
        for norm in self._norms:
            norm.begin_epoch()

    def all_forward(self) -> None:
        """Count no more: all chunks have run forward, and rows that are made again were counted."""
        self._epoch.counts = False

    def finish_epoch(self) -> None:
        """Sum over the parts, and turn the epoch's statistics into those that the next one reads."""
        if not self._norms:
            return
        totals = [norm.totals for norm in self._norms]
        if self._num_parts > 1 and not self._epoch.whole:  # with one chunk each part has counted all rows
            flat = torch.cat(totals)
            sum_small([flat], self._links)
            totals = list(flat.split([len(total) for total in totals]))
        for norm, total in zip(self._norms, totals, strict=True):
            norm.finish_epoch(total)

    def _sum(self, tensor: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(tensor, self._links)
        return total


class _Sum(torch.autograd.Function):
    """A sum over the parts, of which each part's loss reads a share: gradients are summed too."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, tensor: Tensor, links: Links) -> Tensor:
        ctx.links = links  # type: ignore[attr-defined]
        total = tensor.clone()
        sum_small([total], links)
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].clone()
        sum_small([total], ctx.links)  # type: ignore[attr-defined]
        return total, None


def start_at_running(modules: nn.Module) -> None:
    """Begin with the running averages that another run's weights brought, where they did.

    New ones are 0 and 1, and a norm that has seen no epoch counts as such.
    """
    for module in modules.modules():
        if isinstance(module, BatchNorm) and not module.is_new:
            module.start_at_running()


def tile_sizes(own: Sequence[LayerSpec], num_chunks: int, sizes: TileSizes) -> TileSizes:
    """Sizes of the tiles of a stage: one tile where a batch norm is to see all rows at once.

    Args:
        own: layers of the stage.
        num_chunks: number of chunks.
        sizes: sizes without batch norms.
    """
    return ONE_TILE if num_chunks == 1 and has_batch_norm(own) else sizes


def has_batch_norm(layers: Sequence[LayerSpec]) -> bool:
    """Whether any of the layers has a batch norm, wherever inside."""
    with torch.device("meta"):
        return any(isinstance(module, BatchNorm) for layer in layers for module in layer().modules())
