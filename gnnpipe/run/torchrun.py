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
from gnnpipe.graph.prepare.fingerprint import array_fingerprint
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.taking import CONFIG, SUMMARY, launch_id
from gnnpipe.run.callbacks.asking import Direct
from gnnpipe.run.callbacks.host import Host
from gnnpipe.run.callbacks.info import info_of
from gnnpipe.run.job import Job, graph_of
from gnnpipe.run.preparation import Claim, Request, claim, prepare_run, saved, stopped
from gnnpipe.run.rank import joined, train
from gnnpipe.run.reporter import Quiet, Reporter
from gnnpipe.run.resume import folder_of, for_restart
from gnnpipe.system.interruption import exit_at_once

# torchrun ends all ranks of a host as soon as one ends. Rank 0, which prints the error, may learn of it last.
SECONDS_TO_SPEAK = 30.0


def train_under_torchrun(request: Request) -> RunFolder:
    """Train as one of the ranks, with the callbacks on rank 0; raises as `_train_as_a_rank`, and what a
    callback raises."""
    if os.environ["RANK"] != "0":
        return _train_as_a_rank(request, None)
    host = Host.of(request.callbacks, request.config, request.reporter)
    folder = host.around(lambda: _train_as_a_rank(request, host))
    request.reporter.end(folder)
    if host:
        host.end(folder.read(SUMMARY))
    return folder


def _train_as_a_rank(request: Request, host: Host | None) -> RunFolder:
    """Train; return the run's folder. The first rank of each host prepares the graph for the others there.
    ``host`` has the callbacks; None except on rank 0.

    Raises:
        GnnpipeError: as `gnnpipe.run.session.train`. Where all ranks raise the same one, rank 0 prints it:
            the others give it time and mark theirs as said.
    """
    # rank 0     claim folder -> join ranks -> prepare job, make folder -> share job -> train
    # first of
    # a host                     join ranks -> prepare job              -> share job -> train
    # others                     join ranks -> (wait)                   -> share job -> train
    rank, reporter = int(os.environ["RANK"]), request.reporter
    folder: RunFolder | None = None
    begun = False  # whether the content of the folder is this run's already
    everyones = True  # whether all ranks raise an error alike, so that rank 0 alone prints it
    try:
        check_size(request.config)
        request = replace(request, config=for_restart(request.config, reporter))
        folder = folder_of(request.config) if rank == 0 else None
        with ExitStack() as held_until:
            claimed = claim(request, folder, held_until) if folder else None
            scratch = held_until.enter_context(scratch_folder())
            everyones = False  # joining may fail on one host alone
            world = held_until.enter_context(joined(request.config, None))
            everyones = True
            begun = bool(claimed and claimed.start)
            job = _share_job(request, claimed, world, scratch, held_until, asks=bool(host))
            begun = True
            train(job, world, reporter, partial(_leave, folder, reporter), _listener(host, job))
            world.gather(None)  # a barrier: the caller may read the summary, which rank 0 writes
    except StoppedError as error:
        if rank:  # rank 0 prints what is saved
            raise StoppedError(error.number, None) from None
        raise stopped(error.number, folder, begun=begun) from None
    except GnnpipeError as error:
        if rank == 0 or not everyones:
            raise
        let_rank_0_speak(error, reporter)
        raise
    return RunFolder(job.out)


def _listener(host: Host | None, job: Job) -> Direct | None:
    """Tell the callbacks, if this process has any, that training starts; return the way to them."""
    if not host:
        return None
    host.start(info_of(RunFolder(job.out)))
    return Direct(host)


def let_rank_0_speak(error: GnnpipeError, reporter: Reporter) -> None:
    """Give rank 0 time to print an error that all ranks raise, and mark this rank's as said."""
    if isinstance(error, LostRankError):  # no other rank knows what this one waited for
        reporter.remark(f"gnnpipe: error: {error}")
    time.sleep(SECONDS_TO_SPEAK)
    error.said = True


def check_size(config: LayoutConfig) -> None:
    """Raise PlanError unless the plan takes as many processes as torchrun has started."""
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
    request: Request,
    claimed: Claim | None,
    world: World,
    scratch: Path,
    held_until: ExitStack,
    *,
    asks: bool,
) -> Job:
    """Prepare the job once a host and hand it to all ranks. An error on one host is raised on all.

    Raises:
        UserError: what a user can mend.
        PlanError: the hosts came to different plans, or cuts.
    """
    # of all hosts, as after a restart rank 0 may be on another one
    launches = tuple(world.gather(launch_id()))
    claimed = claimed and replace(claimed, folder=replace(claimed.folder, launches=launches))
    job: Job | None = None
    failure: UserError | None = None
    if os.environ.get("LOCAL_RANK", "0") == "0":
        try:
            reporter = request.reporter if claimed else Quiet()
            graph = held_until.enter_context(graph_of(request.config, reporter, request.data))
            job, _ = prepare_run(request, graph, claimed, scratch, held_until)
            job = replace(job, asks=asks)
        except UserError as error:
            failure = error
    host = os.environ.get("GROUP_RANK", "0")
    prepared = world.gather((host, job, failure, _order_of(job) if job else None))
    for _, _, refusal, _ in prepared:
        if refusal is not None:
            raise refusal
    _check_alike([(other, order) for _, other, _, order in prepared if other is not None])
    jobs = [(of_host, prepared_job) for of_host, prepared_job, _, _ in prepared if prepared_job is not None]
    first = jobs[0][1]  # rank 0's
    # The graph's file is this host's own; the folder, the checkpoint and the callbacks are those of rank 0.
    mine = next(prepared_job for of_host, prepared_job in jobs if of_host == host)
    job = replace(mine, out=first.out, start=first.start, asks=first.asks)
    _check_folder_is_shared(job, world)
    return job


def _order_of(job: Job) -> str:
    """A hash of the order of the prepared graph's rows: another cut gives another one."""
    return array_fingerprint(PreparedGraph.load(job.graph).node_id)


def _check_alike(jobs: list[tuple[Job, str | None]]) -> None:
    """Raise PlanError unless all hosts have the same plan and have cut the graph the same way, as ranks of
    several hosts would take each other's rows for other nodes', and ConfigError unless they begin with the
    same weights."""
    first, order = jobs[0]
    same = "install the same versions on all, with pymetis, and with kaminpar on all hosts or on none"
    if any(other.plan != first.plan for other, _ in jobs):
        raise PlanError(f"the hosts came to different plans; {same}")
    if any(other.spec.checksum != first.spec.checksum for other, _ in jobs):
        raise ConfigError(
            f"model: the hosts read different code of {first.spec.model}; give all the same file"
        )
    # after a restart the first host alone may know that there is a checkpoint, which needs no other weights
    if len({other.warm_start.fingerprint for other, _ in jobs if other.warm_start}) > 1:
        raise ConfigError("warm-start: the hosts read different weights; give all of them the same file")
    if any(other_order != order for _, other_order in jobs):
        raise PlanError(f"the hosts cut the graph in different ways; {same}")


def _check_folder_is_shared(job: Job, world: World) -> None:
    """Raise ConfigError unless all ranks see the run's folder, where each writes its share of checkpoints."""
    blind = [rank for rank, sees in enumerate(world.gather((job.out / CONFIG).exists())) if not sees]
    if blind and (job.checkpointing or job.start):
        raise ConfigError(
            f"out: rank {blind[0]} does not see '{job.out}', where checkpoints go; name a folder that all "
            "hosts share, or use --checkpoint-every 0"
        )


def _leave(folder: RunFolder | None, reporter: Reporter, number: int) -> None:
    """End this process at once, at a second signal; rank 0, which has the folder, says what is saved."""
    try:
        if folder:
            reporter.remark(f"\n{how_it_ended(number)}; {saved(folder)}")
    finally:
        exit_at_once(number)
