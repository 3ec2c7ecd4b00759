"""A run from its config to its summary, under our own launcher or torchrun."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from gnnpipe.base.config import RunConfig
from gnnpipe.base.errors import GnnpipeError, PlanError, UserError, exit_code
from gnnpipe.graph.datasets import load_dataset
from gnnpipe.plan.hardware import load_hardware
from gnnpipe.report.console import (
    ConsoleReporter,
    PatientConsole,
    describe_start,
    print_summary,
    readable_bytes,
)
from gnnpipe.runtime.interruption import end_on_signal
from gnnpipe.runtime.launch import launch_local, warm_up
from gnnpipe.runtime.memory import free_memory_bytes
from gnnpipe.runtime.world import World, choose_device, join, launched_by_torchrun
from gnnpipe.train.auto import planned
from gnnpipe.train.job import Job, describe_plan, has_estimate, plan_for, prepare_job
from gnnpipe.train.machine import outdated
from gnnpipe.train.predictions import Predictions
from gnnpipe.train.rank import train
from gnnpipe.train.records import RunFolder

# torchrun ends all ranks of a host as soon as one ends; rank 0, which says why, may be the last to know.
SECONDS_TO_SPEAK = 30.0


def run(config: RunConfig) -> int:
    """Prepare and train; return the exit code.

    Args:
        config: resolved by `check_config`.
    """
    return _run_under_torchrun(config) if launched_by_torchrun() else _run_local(config)


def run_missing(configs: list[RunConfig]) -> None:
    """Run what is not there yet, one after the other; all is checked before the first one starts.

    Raises:
        ConfigError: a folder holds another run and ``overwrite`` is not set.
        PlanError: a plan does not fit the graph or the model.
    """
    states = [RunFolder(Path(str(config.out))).state(config) for config in configs]
    missing = [
        replace(config, overwrite=config.overwrite or state == "begun")
        for config, state in zip(configs, states, strict=True)
        if state != "finished"
    ]
    data = load_dataset(missing[0]) if missing else None
    for config in missing:
        RunFolder.for_config(config)
        choose_device(config.device, config.stages * config.parts)
        assert data is not None
        plan_for(config, data)
    console = PatientConsole(highlight=False, soft_wrap=True)
    for config, state in zip(configs, states, strict=True):
        if state == "finished":
            console.print(f"{config.out}: there already", markup=False)
    for config in missing:
        console.print(str(config.out), markup=False)
        _run_local(config)


def _run_local(config: RunConfig) -> int:
    """Start a process for each part of each stage."""
    folder = RunFolder.for_config(config)
    if config.plan == "auto":
        config, note = planned(config, load_dataset(config))
        PatientConsole(highlight=False, soft_wrap=True).print(note, markup=False)
    warning = outdated(load_hardware(config.hardware)) if config.hardware else None
    if warning:
        sys.stderr.write(f"warning: {warning}\n")
    choose_device(config.device, config.stages * config.parts)
    warm_up()
    with tempfile.TemporaryDirectory(prefix="gnnpipe-") as scratch:
        try:
            job = _prepare(config, Path(scratch), folder)
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted; nothing was saved yet\n")
            raise
        launch_local(local_rank_main, (job,), job.plan.num_ranks, _say_what_a_job_saved)
    print_summary(folder)
    return 0


def local_rank_main(job: Job, store: str) -> None:
    """What a process that we started does."""
    config = job.config
    with join(config, store) as world:
        train(job, world, ConsoleReporter(config.epochs, job.metric))


def _run_under_torchrun(config: RunConfig) -> int:
    """Be one of the processes that torchrun started; the first of each host prepares the graph for all."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    everyones = True  # whether all ranks see an error alike, so that one of them says it
    try:
        if config.plan == "auto":
            raise PlanError(
                "plan: auto starts its processes itself, but torchrun has started some; use the flags that "
                f"gnnpipe plan --devices {size} prints"
            )
        needed = config.stages * config.parts
        if needed != size:
            raise PlanError(
                f"stages ({config.stages}) x parts ({config.parts}) = {needed} ranks, but {size} processes "
                f"were started; use --nproc-per-node {needed}, or other --stages and --parts"
            )
        folder = RunFolder.for_config(config) if rank == 0 else None
        end_on_signal(lambda how: _say_saved(how, folder) if folder else None)
        everyones = False
        with (
            tempfile.TemporaryDirectory(prefix="gnnpipe-") as scratch,
            join(config, None) as world,
        ):
            everyones = True
            job = _share_job(config, world, Path(scratch), folder)
            train(job, world, ConsoleReporter(config.epochs, job.metric))
    except GnnpipeError as error:
        if rank == 0 or not everyones:
            raise
        time.sleep(SECONDS_TO_SPEAK)
        return exit_code(error)
    if folder:
        print_summary(folder)
    return 0


def _share_job(config: RunConfig, world: World, scratch: Path, folder: RunFolder | None) -> Job:
    """Prepare once a host; an error on one is everyone's."""
    job: Job | None = None
    failure: UserError | None = None
    if os.environ.get("LOCAL_RANK", "0") == "0":
        try:
            job = _prepare(config, scratch, folder)
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
    return next(found for where, found, _ in shared if where == host and found is not None)


def _prepare(config: RunConfig, scratch: Path, folder: RunFolder | None) -> Job:
    """Prepare the job; who is given the run's folder also makes it and says what is about to run."""
    job, facts, predictions = prepare_job(config, scratch, folder.path if folder else Path())
    if folder:
        plan = describe_plan(job, facts, predictions)
        console = ConsoleReporter(config.epochs, job.metric)
        for line in describe_start(plan, config.halo):
            console.say(line)
        _warn_about_memory(job, predictions, console)
        if config.check_gradient and not has_estimate(job):
            console.say("nothing to check: with one chunk the gradient is the exact one")
        folder.create(config, plan)
    return job


def _warn_about_memory(job: Job, predictions: Predictions, console: ConsoleReporter) -> None:
    """Say so before an epoch's activations don't fit on this host, whose ranks are the first ones."""
    here = predictions.memory_bytes[: int(os.environ.get("LOCAL_WORLD_SIZE", job.plan.num_ranks))]
    device = choose_device(job.config.device, len(here))
    free = free_memory_bytes(device)
    needed = max(here) if device.type == "cuda" else sum(here)
    if needed > free:
        console.say(
            f"warning: this run needs about {readable_bytes(needed)}, but only {readable_bytes(free)} are "
            f"free on this {'device' if device.type == 'cuda' else 'host'}; lower --hidden or --layers, or "
            f"spread the ranks over more hosts"
        )


def _say_what_a_job_saved(how: str, job: Job) -> None:
    _say_saved(how, RunFolder(job.out))


def _say_saved(how: str, folder: RunFolder) -> None:
    sys.stderr.write(f"\n{how}; {folder.saved()}\n")
    sys.stderr.flush()
