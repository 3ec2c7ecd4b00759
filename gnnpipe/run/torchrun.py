"""A run as one of the processes that torchrun, or another launcher, has started."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from gnnpipe.comm.world import World
from gnnpipe.config.run import LayoutConfig
from gnnpipe.errors import (
    ConfigError,
    GnnpipeError,
    LostRankError,
    PlanError,
    StoppedError,
    UserError,
    how_it_ended,
)
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.taking import CONFIG, launch_id
from gnnpipe.run.job import Job
from gnnpipe.run.preparation import Claim, Request, claim, prepare_run, saved, stopped
from gnnpipe.run.rank import joined, train
from gnnpipe.run.reporter import Reporter
from gnnpipe.run.resume import folder_of, for_restart
from gnnpipe.system.interruption import exit_at_once

# torchrun ends all ranks of a host as soon as one ends; rank 0, which says why, may be the last to know.
SECONDS_TO_SPEAK = 30.0


def train_under_torchrun(request: Request) -> RunFolder:
    """Be one of the ranks; the first of each host prepares the graph for all.

    Raises:
        GnnpipeError: as `gnnpipe.run.session.train`. Where all ranks see it alike, the others than rank 0
            wait until that has spoken, and mark theirs as said.
    """
    rank, reporter = int(os.environ["RANK"]), request.reporter
    folder: RunFolder | None = None
    begun = False  # whether what is in the folder is this run's
    everyones = True  # whether all ranks see an error alike, so that one of them says it
    try:
        _check_size(request.config)
        request = replace(request, config=for_restart(request.config, reporter))
        folder = folder_of(request.config) if rank == 0 else None
        with ExitStack() as held_until:
            claimed = claim(request, folder, held_until) if folder else None
            scratch = held_until.enter_context(scratch_folder())
            everyones = False
            world = held_until.enter_context(joined(request.config, None))
            everyones = True
            begun = bool(claimed and claimed.start)
            job = _share_job(request, claimed, world, scratch, held_until)
            begun = True
            train(job, world, reporter, partial(_leave, folder, reporter))
            world.gather(None)  # nobody reads the folder before rank 0 has written the summary
    except StoppedError as error:
        if rank:  # rank 0 says it
            raise StoppedError(error.number, None) from None
        raise stopped(error.number, folder, begun=begun) from None
    except GnnpipeError as error:
        if rank == 0 or not everyones:
            raise
        if isinstance(error, LostRankError):  # what a rank waited for only it knows
            reporter.remark(f"gnnpipe: error: {error}")
        time.sleep(SECONDS_TO_SPEAK)
        error.said = True
        raise
    if folder:
        reporter.end(folder)
    return RunFolder(job.out)


def _check_size(config: LayoutConfig) -> None:
    """Raise PlanError unless the plan is one for the processes that there are."""
    size = int(os.environ["WORLD_SIZE"])
    if config.plan == "auto":
        raise PlanError(
            "plan: auto starts its processes itself, but torchrun has started some; use the flags that "
            f"gnnpipe plan --devices {size} prints"
        )
    needed = config.num_ranks
    if needed != size:
        raise PlanError(
            f"stages ({config.stages}) x parts ({config.parts}) = {needed} ranks, but {size} processes "
            f"were started; use --nproc-per-node {needed}, or other --stages and --parts"
        )


def _share_job(
    request: Request, claimed: Claim | None, world: World, scratch: Path, held_until: ExitStack
) -> Job:
    """Prepare once a host; an error on one is everyone's."""
    launches = tuple(world.gather(launch_id()))  # of all hosts: a restart may make another one the first
    claimed = claimed and replace(claimed, folder=replace(claimed.folder, launches=launches))
    job: Job | None = None
    failure: UserError | None = None
    if os.environ.get("LOCAL_RANK", "0") == "0":
        try:
            job, _ = prepare_run(request, claimed, scratch, held_until)
        except UserError as error:
            failure = error
    host = os.environ.get("GROUP_RANK", "0")
    shared = world.gather((host, job, failure))
    for _, _, reason in shared:
        if reason is not None:
            raise reason
    jobs = [found for _, found, _ in shared if found is not None]
    if any(found.plan != jobs[0].plan for found in jobs):
        raise PlanError("the hosts came to different plans; install the same versions on all, with pymetis")
    mine = next(found for where, found, _ in shared if where == host and found is not None)
    job = replace(mine, out=jobs[0].out, start=jobs[0].start)
    _check_folder_is_shared(job, world)
    return job


def _check_folder_is_shared(job: Job, world: World) -> None:
    """Every rank writes its part of a checkpoint into the one folder."""
    blind = [rank for rank, sees in enumerate(world.gather((job.out / CONFIG).exists())) if not sees]
    if blind and (job.checkpointing or job.start):
        raise ConfigError(
            f"out: rank {blind[0]} does not see '{job.out}', where checkpoints go; name a folder that all "
            "hosts share, or use --checkpoint-every 0"
        )


def _leave(folder: RunFolder | None, reporter: Reporter, number: int) -> None:
    """End this process of torchrun's at once."""
    try:
        if folder:
            reporter.remark(f"\n{how_it_ended(number)}; {saved(folder)}")
    finally:
        exit_at_once(number)
