"""A run from its config to its summary, under our own launcher or torchrun."""

from __future__ import annotations

import itertools
import os
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

from gnnpipe.cli.preparation import Lock, hold_what_goes_on, prepare_run, saved, stopped
from gnnpipe.cli.resume import as_far_as_it_got, folder_of, for_restart, restarted, start_of
from gnnpipe.comm.launch import launch_local, warm_up
from gnnpipe.comm.world import World, choose_device, join, launched_by_torchrun
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import changes, with_stored_plan
from gnnpipe.errors import (
    ConfigError,
    GnnpipeError,
    LostRankError,
    PlanError,
    StoppedError,
    UserError,
    exit_code,
    how_it_ended,
)
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.graph.datasets import load_dataset
from gnnpipe.planner.hardware import load_hardware, outdated
from gnnpipe.planner.search import planned
from gnnpipe.report.busy import busy
from gnnpipe.report.console import ConsoleReporter, PatientConsole, print_summary
from gnnpipe.run.job import Job, Start, plan_for
from gnnpipe.run.rank import train
from gnnpipe.run.records import RunFolder
from gnnpipe.run.taking import CONFIG, launch_id
from gnnpipe.system.interruption import exit_at_once

# torchrun ends all ranks of a host as soon as one ends; rank 0, which says why, may be the last to know.
SECONDS_TO_SPEAK = 30.0


def run(config: Resolved, before: Resolved | None = None) -> int:
    """Prepare and train; return the exit code.

    Args:
        config: resolved by `check_config`.
        before: the settings of the run that ``config.resume`` names, as they were.
    """
    if before is not None:
        plan = RunFolder(Path(str(config.resume))).plan()
        config = with_stored_plan(config, before, plan.plan.num_chunks)
        if not launched_by_torchrun() or os.environ["RANK"] == "0":
            for change in changes(config, before):
                sys.stderr.write(f"from here on: {change}\n")
    return _run_under_torchrun(config) if launched_by_torchrun() else _run_local(config)


def run_missing(configs: list[Resolved]) -> None:
    """Run what is not there yet, one after the other; all is checked before the first one starts.

    Raises:
        ConfigError: a folder holds another run and ``overwrite`` is not set.
        PlanError: a plan does not fit the graph or the model.
    """
    states = [RunFolder(Path(str(config.out))).state(config) for config in configs]
    missing = [
        as_far_as_it_got(config) if state == "begun" else config
        for config, state in zip(configs, states, strict=True)
        if state != "finished"
    ]
    data = load_dataset(missing[0]) if missing else None
    for config in missing:
        start_of(config, folder_of(config))
        choose_device(config.device, config.num_ranks)
        assert data is not None
        plan_for(config, data)
    console = PatientConsole(highlight=False, soft_wrap=True)
    for config, state in zip(configs, states, strict=True):
        if state == "finished":
            console.print(f"{config.out}: there already", markup=False)
    for config in missing:
        console.print(str(config.out), markup=False)
        _run_local(config)


def _run_local(config: Resolved) -> int:
    """Start a process for each part of each stage."""
    folder = folder_of(config)
    with ExitStack() as held_until:
        try:
            lock = hold_what_goes_on(config, folder, held_until)
            start = start_of(config, folder)
            config = _with_plan(config)
            warm_up(local_rank_main)
            scratch = held_until.enter_context(scratch_folder())
            job, lock = prepare_run(config, scratch, folder, start, held_until, lock)
        except StoppedError as error:
            raise stopped(error.number, folder, begun=bool(config.resume)) from None
        _launch(job, folder, lock)
    print_summary(folder)
    return 0


def _with_plan(config: Resolved) -> Resolved:
    """Choose the plan if that is asked for; check that the devices are there."""
    if config.plan == "auto":
        with busy("choosing a plan"):
            config, note = planned(config, load_dataset(config), config.device)
        PatientConsole(highlight=False, soft_wrap=True).print(note, markup=False)
    warning = outdated(load_hardware(config.hardware)) if config.hardware else None
    if warning:
        sys.stderr.write(f"warning: {warning}\n")
    choose_device(config.device, config.num_ranks)
    return config


def _launch(job: Job, folder: RunFolder, lock: Lock = ()) -> None:
    """Run all processes, again from the last checkpoint where one of them was lost."""
    for restart in itertools.count(1):
        try:
            launch_local(local_rank_main, (job,), job.plan.num_ranks, lock)
            return
        except StoppedError as error:
            raise stopped(error.number, folder, begun=True) from None
        except LostRankError as error:
            if restart > job.config.max_restarts:
                raise
            job = restarted(job, folder)
            sys.stderr.write(
                f"{error}\nrestart {restart} of {job.config.max_restarts}, from epoch "
                f"{job.start.epochs if job.start else 0}\n"
            )


def local_rank_main(job: Job, store: str) -> None:
    """What a process that we started does."""
    config = job.config
    with _join(config, store) as world:
        train(job, world, ConsoleReporter(config.epochs, job.metric))


def _join(config: Resolved, store: str | None) -> AbstractContextManager[World]:
    return join(config, store, device=config.device, threads=config.threads, timeout=config.timeout)


def _run_under_torchrun(config: Resolved) -> int:
    """Be one of the processes that torchrun started; the first of each host prepares the graph for all."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    folder: RunFolder | None = None
    begun = False  # whether what is in the folder is this run's
    everyones = True  # whether all ranks see an error alike, so that one of them says it
    try:
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
        config = for_restart(config)
        folder = folder_of(config) if rank == 0 else None
        with ExitStack() as held_until:
            lock = hold_what_goes_on(config, folder, held_until) if folder else ()
            start = start_of(config, folder) if folder else None
            scratch = held_until.enter_context(scratch_folder())
            everyones = False
            world = held_until.enter_context(_join(config, None))
            everyones = True
            begun = bool(start)
            job = _share_job(config, world, scratch, folder, start, held_until, lock)
            begun = True
            train(job, world, ConsoleReporter(config.epochs, job.metric), lambda n: _leave(n, folder))
    except StoppedError as error:
        if rank:  # rank 0 says it
            raise StoppedError(error.number, None) from None
        raise stopped(error.number, folder, begun=begun) from None
    except GnnpipeError as error:
        if rank == 0 or not everyones:
            raise
        if isinstance(error, LostRankError):  # what a rank waited for only it knows
            sys.stderr.write(f"gnnpipe: error: {error}\n")
        time.sleep(SECONDS_TO_SPEAK)
        return exit_code(error)
    if folder:
        print_summary(folder)
    return 0


def _share_job(
    config: Resolved,
    world: World,
    scratch: Path,
    folder: RunFolder | None,
    start: Start | None,
    held_until: ExitStack,
    lock: Lock,
) -> Job:
    """Prepare once a host; an error on one is everyone's."""
    launches = tuple(world.gather(launch_id()))  # of all hosts: a restart may make another one the first
    folder = folder and replace(folder, launches=launches)
    job: Job | None = None
    failure: UserError | None = None
    if os.environ.get("LOCAL_RANK", "0") == "0":
        try:
            job, _ = prepare_run(config, scratch, folder, start, held_until, lock)
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


def _leave(number: int, folder: RunFolder | None) -> None:
    """End this process of torchrun's at once."""
    try:
        if folder:
            sys.stderr.write(f"\n{how_it_ended(number)}; {saved(folder)}\n")
            sys.stderr.flush()
    finally:
        exit_at_once(number)
