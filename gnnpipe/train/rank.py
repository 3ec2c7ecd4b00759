"""What one rank does once it has joined the others."""

from __future__ import annotations

from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.runtime.place import Place
from gnnpipe.runtime.stage import DropoutSettings, Stage
from gnnpipe.runtime.tables import TableSettings
from gnnpipe.runtime.world import World
from gnnpipe.train.job import Job
from gnnpipe.train.trainer import Reporter, Trainer


def train(job: Job, world: World, reporter: Reporter) -> None:
    """Build this rank's stage and train it.

    Args:
        job: the same on every rank.
        world: the ranks of the run.
        reporter: shows the run; used on rank 0.
    """
    graph = PreparedGraph.load(job.graph)
    stage = make_stage(job, world, graph)
    Trainer(job, world, stage, reporter).train()


def make_stage(job: Job, world: World, graph: PreparedGraph) -> Stage:
    """The layers of this rank."""
    config, plan = job.config, job.plan
    assert config.staleness.dropout_hold is not None
    return Stage(
        Place.of_rank(world.rank, plan.num_stages, plan.num_parts),
        plan,
        job.spec,
        graph,
        TableSettings.of(config.staleness, plan, config.halo),
        DropoutSettings(config.dropout, config.seed, config.staleness.dropout_hold),
        world.device,
        world.links,
    )
