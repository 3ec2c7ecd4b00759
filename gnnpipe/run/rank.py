"""One rank of a run: it joins the others and trains its stage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection

from gnnpipe.comm.place import Place
from gnnpipe.comm.products import check_effect
from gnnpipe.comm.world import World, join
from gnnpipe.config.resolved import Resolved
from gnnpipe.engine.stage import Stage
from gnnpipe.errors import GnnpipeError, LostRankError, StoppedError
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.run.callbacks.asking import Audience, Listener, Remote
from gnnpipe.run.job import Job
from gnnpipe.run.reporter import Reporter
from gnnpipe.run.trainer import Trainer
from gnnpipe.system.interruption import exit_at_once, noted


def rank_main(job: Job, reporter: Reporter, store: str) -> None:
    """Main function of a process that our launcher has started; see `launch_local` for ``store``."""
    with joined(job.config, store) as world:
        train(job, world, reporter)


def asking_rank_main(job: Job, reporter: Reporter, line: Connection | None, store: str) -> None:
    """As `rank_main`, for a run with callbacks in the launcher's process."""
    with joined(job.config, store) as world:
        train(job, world, reporter, listener=Remote(line) if line else None)


def joined(config: Resolved, store: str | None) -> AbstractContextManager[World]:
    """Join the other ranks of the run, as `join` does."""
    return join(config, store, device=config.device, threads=config.threads, timeout=config.timeout)


def train(
    job: Job,
    world: World,
    reporter: Reporter,
    at_once: Callable[[int], None] = exit_at_once,
    listener: Listener | None = None,
) -> None:
    """Build this rank's stage and train it.

    Args:
        job: the run; the same on every rank.
        world: the ranks of the run.
        reporter: shows the run; used on rank 0.
        at_once: ends this process when a second signal arrives.
        listener: rank 0's way to the callbacks, if there are any (`Job.asks`); None on the other ranks.

    Raises:
        ConfigError: the device does not multiply as it was asked to.
        StoppedError: a rank was told to end.
    """
    check_effect(job.plan.compute, world.device)
    graph = PreparedGraph.load(job.graph)
    audience = Audience(world, listener, job.config.timeout) if job.asks else None
    trainer = Trainer(job, world, make_stage(job, world, graph), graph, reporter, audience)
    trainer.begin()
    with noted(at_once) as wish:
        try:
            trainer.train(wish)
        except RuntimeError as error:
            ours = isinstance(error, GnnpipeError) and not isinstance(error, LostRankError)
            if ours or not wish.number:
                raise
            # Other ranks got the signal too. One that is gone is no failure, and one that failed is reported
            # by the launcher.
            raise StoppedError(wish.number) from None


def make_stage(job: Job, world: World, graph: PreparedGraph) -> Stage:
    """The layers of this rank, on its part of the graph."""
    return Stage(
        Place.of_rank(world.rank, job.plan.num_stages, job.plan.num_parts),
        job.plan,
        job.spec,
        graph,
        job.tables,
        job.dropout,
        world.device,
        world.links,
        loss=job.config,
    )
