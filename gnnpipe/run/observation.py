"""Measurements that training does not need: the freshness of rows, and the error of the gradient."""

from __future__ import annotations

from gnnpipe.comm.groups import Links
from gnnpipe.comm.stage_links import Messages
from gnnpipe.engine.gradient_check import GradientCheck
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.run.job import Job, has_estimate
from gnnpipe.schedule.freshness import Ages


def ages_of(job: Job, graph: PreparedGraph, settings: TableSettings) -> Ages:
    """Counts how fresh the rows are that each convolution reads."""
    return Ages(
        graph.chunk_edges.numpy(),
        job.spec.layers,
        settings.freeze,
        job.plan.lookahead,
        stale_halo=settings.stale_halo,
    )


def gradient_check_of(
    job: Job, stage: Stage, graph: PreparedGraph, messages: Messages, links: Links
) -> GradientCheck | None:
    """Compares the gradient with the exact one; None if that is not asked for, or the gradient is exact."""
    if not job.config.check_gradient or not has_estimate(job):
        return None
    return GradientCheck(stage, job.plan, job.spec, graph, job.dropout, messages, links)
