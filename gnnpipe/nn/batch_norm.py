"""Batch normalisation (arXiv 1502.03167) of rows that come in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.running import grad_of

# Rows from which on a tile has statistics of its own in the first epoch. The variance of a single row is 0;
# layers behind would make all rows alike, and the next epoch would divide by that.
LEAST_ROWS = 2

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over the parts of a stage: all parts call it, and get the sum."""


def alone(tensor: Tensor) -> Tensor:
    """The sum over the parts where there is one."""
    return tensor


@dataclass
class Statistics:
    """Column statistics by which rows were normalised."""

    mean: Tensor
    """``[columns]``."""
    scale: Tensor
    """Reciprocal standard deviation, ``[columns]``."""
    count: Tensor | None
    """Number of rows that they are of, if the gradient goes through them; None where they are constants."""


@dataclass
class EpochOfNorms:
    """The epoch that the batch norms of a stage are in; one object for all of them, which the engine sets."""

    whole: bool = True
    """Whether a call has all rows of the rank's part, so that its statistics are exact."""
    reduce: Reduce = alone
    """Sums over the parts of the stage."""
    counts: bool = False
    """Whether calls count for the epoch's statistics: on the way forward, and not where rows are made again
    on the way back, nor in an evaluation."""

    def __deepcopy__(self, memo: object) -> EpochOfNorms:
        """Itself: averages of weights are a copy of a stage's modules, and run in no epoch of their own."""
        return self


class BatchNorm(nn.Module):
    """``(h - mean) / std * weight + bias`` by columns, in place of `torch.nn.BatchNorm1d`.

    In training the statistics are those of

        one chunk       all rows, over all parts, and the gradient goes through them: exactly `BatchNorm1d`
        several chunks  all rows as the last epoch had them; they are constants. In the first epoch, and only
                        there, each tile of a chunk has its own, as a mini-batch has; single rows are
                        left as they are.

    Evaluation uses running averages of them, as `BatchNorm1d` does, one step an epoch.

    Shapes: ``[n, columns] -> [n, columns]``.

    Args:
        columns: number of columns.
        eps: added to the variance.
        momentum: share of an epoch's statistics in the running ones; None for the mean of all epochs.
        affine: whether there are weight and bias.
    """

    running_mean: Tensor
    running_var: Tensor
    mean: Tensor
    """Mean of the last epoch's rows."""
    var: Tensor
    """Their variance, divided by their number."""
    epochs: Tensor
    """int64: number of epochs that the running averages are of."""

    def __init__(
        self, columns: int, eps: float = 1e-5, momentum: float | None = 0.1, *, affine: bool = True
    ) -> None:
        super().__init__()
        self.columns, self.eps, self.momentum = columns, eps, momentum
        self.weight = nn.Parameter(torch.ones(columns)) if affine else None
        self.bias = nn.Parameter(torch.zeros(columns)) if affine else None
        self.register_buffer("running_mean", torch.zeros(columns))
        self.register_buffer("running_var", torch.ones(columns))
        # the rest is the run's: checkpoints have it, files of weights do not
        self.register_buffer("mean", torch.zeros(columns), persistent=False)
        self.register_buffer("var", torch.ones(columns), persistent=False)
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64), persistent=False)
        self.epoch: EpochOfNorms | None = None
        self._known = False
        self._totals = torch.zeros(0)

    def run_by(self, epoch: EpochOfNorms) -> None:
        """Let the engine say what calls are of; without it a call has all rows, and counts."""
        self.epoch = epoch

    def begin_epoch(self) -> None:
        """Begin to count."""
        self._known = self._known or bool(self.epochs > 0)
        if self._totals.device != self.mean.device or not len(self._totals):
            self._totals = self.mean.new_zeros(2 * self.columns + 1, dtype=torch.float64)
        self._totals.zero_()  # in place: recorded CUDA graphs add to it

    @property
    def totals(self) -> Tensor:
        """float64 ``[2 columns + 1]``: sums of this epoch's rows less `mean`, of their squares, and their
        number."""
        return self._totals

    @torch.no_grad()
    def finish_epoch(self, totals: Tensor) -> None:
        """Turn the epoch's statistics into those that the next epoch reads.

        Args:
            totals: `totals`, over all parts.
        """
        count = totals[-1]
        shift, square = (totals[:-1] / count).view(2, -1)
        self.mean.copy_(self.mean + shift)
        self.var.copy_((square - shift.square()).clamp(min=0.0))
        self.epochs += 1
        share = 1.0 / self.epochs if self.momentum is None else torch.full_like(count, self.momentum)
        share = share.to(self.mean.dtype)
        # as BatchNorm1d: rows are normalised by the variance, and the running average is of its unbiased form
        unbiased = (self.var * (count / (count - 1).clamp(min=1.0))).to(self.var.dtype)
        self.running_mean.lerp_(self.mean, share)
        self.running_var.lerp_(unbiased, share)
        self._known = True

    @property
    def is_new(self) -> bool:
        """Whether the running averages are of no rows yet."""
        return not self.running_mean.any() and bool((self.running_var == 1).all())

    @torch.no_grad()
    def start_at_running(self) -> None:
        """Begin with running averages of another run as if they were those of the last epoch."""
        self.mean.copy_(self.running_mean)
        self.var.copy_(self.running_var)
        self.epochs.fill_(1)

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise rows; autograd differentiates it."""
        if not self.training:
            return F.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        found = self._statistics(rows)
        normed = (rows - found.mean) * found.scale
        if self.weight is None or self.bias is None:
            return normed
        return torch.addcmul(self.bias, normed, self.weight)

    def normalize(self, rows: Tensor) -> tuple[Tensor, Statistics]:
        """Normalise rows in training without autograd; also what `normalize_back` needs."""
        found = self._statistics(rows)
        factor = found.scale if self.weight is None else found.scale * self.weight
        shift = -found.mean * factor
        return torch.addcmul(shift if self.bias is None else shift + self.bias, rows, factor), found

    def normalize_back(self, gradient: Tensor, rows: Tensor, found: Statistics) -> Tensor:
        """The gradient of the rows; those of weight and bias are added.

        With n the rows in normal form, g the gradient of n, and means over all rows, through which the
        gradient goes unless they are constants: ``(g - mean(g) - n mean(g n)) / std``.

        Args:
            gradient: gradient of the normalised rows.
            rows: rows that `normalize` was given.
            found: what it has returned.
        """
        centred = rows - found.mean
        sums = torch.stack([gradient.sum(dim=0), (gradient * centred).sum(dim=0) * found.scale])
        factor = found.scale
        if self.weight is not None and self.bias is not None:
            grad_of(self.bias).add_(sums[0])
            grad_of(self.weight).add_(sums[1])
            factor = factor * self.weight.detach()
        if found.count is None:
            return gradient * factor
        of_g, of_gn = self._reduce(sums) * (factor / found.count)
        return centred.mul_(-of_gn * found.scale).addcmul_(gradient, factor).sub_(of_g)

    @property
    def _reduce(self) -> Reduce:
        return self.epoch.reduce if self.epoch is not None and self.epoch.whole else alone

    def _statistics(self, rows: Tensor) -> Statistics:
        """The statistics that rows are normalised by; they are counted, if calls count."""
        epoch = self.epoch or EpochOfNorms()
        if not epoch.whole and (self._known or len(rows) < LEAST_ROWS):
            if epoch.counts:
                off = rows.detach() - self.mean  # small numbers, whose sums lose little
                self._count(off.sum(dim=0), off.square().sum(dim=0), rows.new_full((), len(rows)))
            return Statistics(self.mean, (self.var + self.eps).rsqrt(), None)
        total = self._reduce(torch.cat([rows.sum(dim=0), rows.new_full((1,), len(rows))]))
        count = total[-1].detach()
        mean = total[:-1] / count
        var = self._reduce((rows - mean).square().sum(dim=0)) / count
        if epoch.counts:
            off, each = (mean.detach() - self.mean).double(), var.detach().double()
            self._count(off * count, (each + off.square()) * count, count.double())
        return Statistics(mean, (var + self.eps).rsqrt(), count)

    def _count(self, total: Tensor, square: Tensor, count: Tensor) -> None:
        self._totals.add_(torch.cat([total, square, count.view(1)]).double())

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.columns}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"


def convert_batch_norms(module: nn.Module) -> nn.Module:
    """Replace every `torch.nn.BatchNorm1d` inside a module by ours, with its weights and running averages.

    Returns:
        the module, changed in place; or ours, if it is one itself.

    Raises:
        ValueError: one of them keeps no running averages, by which evaluation normalises.
    """
    if isinstance(module, nn.BatchNorm1d | nn.SyncBatchNorm):
        return _converted(module)
    for name, child in module.named_children():
        setattr(module, name, convert_batch_norms(child))
    return module


def _converted(norm: nn.BatchNorm1d | nn.SyncBatchNorm) -> BatchNorm:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            "BatchNorm1d(track_running_stats=False) normalises by the rows at hand in evaluation too, and a "
            "chunk has not all rows; leave track_running_stats at True, or use LayerNorm"
        )
    ours = BatchNorm(norm.num_features, norm.eps, norm.momentum, affine=norm.affine)
    ours.to(norm.running_mean.device, norm.running_mean.dtype)
    own = norm.state_dict()
    ours.load_state_dict({name: own[name] for name in ours.state_dict()})
    tracked = norm.num_batches_tracked
    if tracked is not None and not tracked.is_meta and int(tracked) > 0:
        ours.start_at_running()
    return ours.train(norm.training)
