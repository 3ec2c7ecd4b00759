"""An epoch's record, from what all ranks tell of it."""

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
    """What each rank tells all others after an epoch."""

    loss_sum: float
    finite: bool
    """Whether the gradients of its weights are."""
    timeline: RankTimeline
    began: float
    ended: float
    bytes_sent: BytesSent
    table_errors: list[LayerSums]
    """How far stale rows were off when they were refreshed, if this epoch began so."""
    wants_checkpoint: bool
    """By its clock; rank 0's counts."""
    told_to_end: int = 0
    """The signal that told it so; 0 if none did. The first rank's that was told counts for all."""


def epoch_record(
    epoch: int,
    lr: float,
    reports: Sequence[RankReport],
    schedule: Schedule,
    num_train: int,
    kinds: Sequence[str],
    *,
    skipped: bool = False,
) -> EpochRecord:
    """What all ranks know of an epoch. The same on every rank, so that all decide alike.

    Args:
        epoch: its number.
        lr: learning rate of its step.
        reports: of all ranks.
        schedule: what they ran.
        num_train: training nodes of the whole graph.
        kinds: of bytes, in the order in which they are to be listed.
        skipped: whether its step was left out, as its numbers are not finite.
    """
    seconds = max(report.ended for report in reports) - min(report.began for report in reports)
    by_rank = tuple({kind: report.bytes_sent.get(kind, 0) for kind in kinds} for report in reports)
    timeline = [report.timeline for report in reports]
    off = estimates(item for report in reports for item in report.table_errors)
    refreshed = off["all"].table_error is not None
    return EpochRecord(
        epoch=epoch,
        loss=None if skipped else sum(report.loss_sum for report in reports) / num_train,
        lr=lr,
        seconds=seconds,
        ranks=tuple(breakdowns(timeline, schedule, seconds)),
        bytes_sent={kind: sum(sent[kind] for sent in by_rank) for kind in kinds},
        bytes_sent_by_rank=by_rank,
        table_error={name: item.table_error for name, item in off.items()} if refreshed else None,
    )


def gradient_quality(epoch: int, checks: Sequence[CheckResult], num_train: int) -> GradientQuality:
    """What comparing with the exact gradient has found; raises TrainingError as `check_finite` does."""
    loss = sum(check.loss_sum for check in checks) / num_train
    check_finite("the exact loss", loss, epoch)
    found = estimates(item for check in checks for item in check.layers)
    check_finite("the error of the gradient", found["all"].relative_error, epoch)
    check_finite("the error of stale rows", found["all"].table_error or 0.0, epoch)
    return GradientQuality(loss, found)


def check_finite(what: str, value: float, epoch: int, where: str = "") -> None:
    """Stop a run whose numbers went wrong; every rank sees the same value.

    Args:
        what: the value's name.
        value: to be checked.
        epoch: in which it came about.
        where: what else is known, as a clause.
    """
    if not math.isfinite(value):
        raise TrainingError(
            f"{what} became {value} in epoch {epoch + 1}{where}; use a lower --lr, fewer --chunks, or "
            "--staleness exact (with --halo exact) to see whether staleness is the cause"
        )
