"""An epoch's record, from what all ranks tell of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gnnpipe.comm.halo import COMMUNICATION_GRAPH
from gnnpipe.comm.weights import WEIGHTS
from gnnpipe.engine.engine import COMMUNICATION_LAYER
from gnnpipe.engine.gradient_check import CheckResult
from gnnpipe.errors import TrainingError
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
    bytes_sent: dict[str, int]
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
) -> dict[str, Any]:
    """An epoch's line. The same on every rank, so that all decide alike.

    Args:
        epoch: its number.
        lr: learning rate of its step.
        reports: of all ranks.
        schedule: what they ran.
        num_train: training nodes of the whole graph.
        kinds: of bytes, in the order in which they are to be listed.
    """
    seconds = max(report.ended for report in reports) - min(report.began for report in reports)
    by_rank = [{kind: report.bytes_sent.get(kind, 0) for kind in kinds} for report in reports]
    timeline = [report.timeline for report in reports]
    record: dict[str, Any] = {
        "epoch": epoch,
        "loss": sum(report.loss_sum for report in reports) / num_train,
        "lr": lr,
        "seconds": seconds,
        "ranks": [asdict(item) for item in breakdowns(timeline, schedule, seconds)],
        "bytes_sent": {kind: sum(sent[kind] for sent in by_rank) for kind in kinds},
        "bytes_sent_by_rank": by_rank,
    }
    off = estimates(item for report in reports for item in report.table_errors)
    if off["all"].table_error is not None:
        record["table_error"] = {name: item.table_error for name, item in off.items()}
    return record


def gradient_record(epoch: int, checks: Sequence[CheckResult], num_train: int) -> dict[str, Any]:
    """What comparing with the exact gradient adds to an epoch's line."""
    loss = sum(check.loss_sum for check in checks) / num_train
    check_finite("the exact loss", loss, epoch)
    found = estimates(item for check in checks for item in check.layers)
    check_finite("the error of the gradient", found["all"].relative_error, epoch)
    check_finite("the error of stale rows", found["all"].table_error or 0.0, epoch)
    return {"exact_loss": loss, "estimate": {name: asdict(item) for name, item in found.items()}}


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
