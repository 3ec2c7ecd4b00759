"""What one rank does once it has joined the others."""

from __future__ import annotations

from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.runtime.place import Place
from gnnpipe.runtime.stage import Stage
from gnnpipe.runtime.tables import TableSettings
from gnnpipe.runtime.world import World
from gnnpipe.train.job import Job, dropout_settings
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
    Trainer(job, world, stage, graph, reporter).train()


def make_stage(job: Job, world: World, graph: PreparedGraph) -> Stage:
    """The layers of this rank."""
    config, plan = job.config, job.plan
    return Stage(
        Place.of_rank(world.rank, plan.num_stages, plan.num_parts),
        plan,
        job.spec,
        graph,
        TableSettings.of(config.staleness, plan, config.halo),
        dropout_settings(config),
        world.device,
        world.links,
    )
