"""An epoch's record, put together from the reports of all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gnnpipe.comm.halo import COMMUNICATION_GRAPH
from gnnpipe.comm.weights import WEIGHTS
from gnnpipe.engine.engine import COMMUNICATION_LAYER
from gnnpipe.engine.gradient_check import CheckResult
from gnnpipe.errors import TrainingError
from gnnpipe.records.record import BytesSent, EpochRecord, GradientQuality
from gnnpipe.schedule.actions import Schedule
from gnnpipe.schedule.estimate import LayerSums, estimates
from gnnpipe.schedule.timeline import RankTimeline, breakdowns

KINDS = (COMMUNICATION_LAYER, COMMUNICATION_GRAPH, WEIGHTS)


@dataclass(frozen=True)
class RankReport:
    """One rank's account of an epoch, gathered by all ranks."""

    loss_sum: float
    """Sum of the loss over this rank's training nodes; 0 where it holds no last layer."""
    finite: bool
    """Whether the gradients of its weights are finite."""
    timeline: RankTimeline
    began: float
    ended: float
    """Seconds of the run's clock."""
    bytes_sent: BytesSent
    table_errors: list[LayerSums]
    """Distance of stale rows from the exact ones that replaced them; empty unless the epoch began with a
    refresh."""
    wants_checkpoint: bool = False
    """Whether a checkpoint is due by this rank's clock; all ranks go by rank 0's answer."""
    told_to_end: int = 0
    """Signal that told this rank to end; 0 if none did. All ranks go by the first rank that was told."""


def epoch_record(
    epoch: int,
    lr: float,
    reports: Sequence[RankReport],
    schedule: Schedule,
    divisor: float,
    kinds: Sequence[str],
    *,
    skipped: bool = False,
) -> EpochRecord:
    """The record of an epoch; the same on every rank, so that all decide alike.

    Args:
        epoch: its number.
        lr: learning rate of its step.
        reports: of all ranks.
        schedule: the actions that they ran.
        divisor: of the mean loss: training nodes of the whole graph, or the sum of their weights.
        kinds: of bytes, in the order in which they are to be listed.
        skipped: whether its step was left out, as its numbers are not finite.
    """
    seconds = max(report.ended for report in reports) - min(report.began for report in reports)
    by_rank = tuple({kind: report.bytes_sent.get(kind, 0) for kind in kinds} for report in reports)
    return EpochRecord(
        epoch=epoch,
        loss=None if skipped else sum(report.loss_sum for report in reports) / divisor,
        lr=lr,
        seconds=seconds,
        ranks=tuple(breakdowns([report.timeline for report in reports], schedule, seconds)),
        bytes_sent={kind: sum(sent[kind] for sent in by_rank) for kind in kinds},
        bytes_sent_by_rank=by_rank,
        table_error=_table_error(reports),
    )


def _table_error(reports: Sequence[RankReport]) -> dict[str, float | None] | None:
    """How far stale rows were off, by layer and over ``all``; None unless the epoch began with a refresh."""
    found = estimates(sums for report in reports for sums in report.table_errors)
    if found["all"].table_error is None:
        return None
    return {name: estimate.table_error for name, estimate in found.items()}


def gradient_quality(epoch: int, checks: Sequence[CheckResult], divisor: float) -> GradientQuality:
    """The exact loss and how far the gradient is from the exact one, over all ranks; raises TrainingError as
    `check_finite` does."""
    loss = sum(check.loss_sum for check in checks) / divisor
    check_finite("the exact loss", loss, epoch)
    by_layer = estimates(sums for check in checks for sums in check.layers)
    check_finite("the error of the gradient", by_layer["all"].relative_error, epoch)
    check_finite("the error of stale rows", by_layer["all"].table_error or 0.0, epoch)
    return GradientQuality(loss, by_layer)


def check_finite(what: str, value: float, epoch: int, where: str = "") -> None:
    """Stop a run with numbers that are not finite. Every rank sees the same value, so all stop together.

    Args:
        what: the value's name.
        value: to be checked.
        epoch: of the value.
        where: a clause that says where it began, if that is known.

    Raises:
        TrainingError: ``value`` is infinite or NaN.
    """
    if not math.isfinite(value):
        raise TrainingError(
            f"{what} became {value} in epoch {epoch + 1}{where}; use a lower --lr, fewer --chunks, or "
            "--staleness exact (with --halo exact) to see whether staleness is the cause"
        )
