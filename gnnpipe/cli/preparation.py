"""What comes before the ranks of a run: its folder is held, its job is prepared."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from gnnpipe.checkpoint.names import MODEL
from gnnpipe.checkpoint.state import remove_leftovers
from gnnpipe.comm.world import choose_device, sharers
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import continued
from gnnpipe.errors import GnnpipeError, StoppedError
from gnnpipe.planner.predictions import Predictions
from gnnpipe.report.busy import busy
from gnnpipe.report.console import ConsoleReporter, describe_start, readable_bytes
from gnnpipe.run.job import Job, Start, describe_plan, has_estimate, prepare_job, silently
from gnnpipe.run.lock import held
from gnnpipe.run.records import NOTHING_SAVED, RunFolder
from gnnpipe.system.memory import free_memory_bytes

Lock = tuple[int, ...]
"""The open file that keeps a run's folder ours, if this process holds it."""


def hold_what_goes_on(config: Resolved, folder: RunFolder, held_until: ExitStack) -> Lock:
    """Hold the folder of a run that goes on before its checkpoints are looked at, as the run that wrote them
    may be about to end; a new run's folder is made later."""
    return (held_until.enter_context(held(folder.path)),) if config.resume else ()


def prepare_run(
    config: Resolved,
    scratch: Path,
    folder: RunFolder | None,
    start: Start | None,
    held_until: ExitStack,
    lock: Lock,
) -> tuple[Job, Lock]:
    """Prepare the job; who is given the run's folder also makes it, or brings it back to where the run is to
    go on, holds it until ``held_until`` ends, and says what is about to run."""
    out = folder.path if folder else Path()
    job, facts, predictions = prepare_job(config, scratch, out, busy if folder else silently)
    job = replace(job, start=start)
    if folder:
        plan = describe_plan(job, facts, predictions)
        console = ConsoleReporter(config.epochs, job.metric)
        for line in describe_start(plan, config.halo):
            console.say(line)
        _warn_about_device(job, predictions, console)
        if config.check_gradient and not has_estimate(job):
            console.say("nothing to check: with one chunk the gradient is the exact one")
        lock = lock or (held_until.enter_context(held(folder.path)),)
        if start is None:
            folder.create(config, plan)
        else:
            console.say(f"going on from epoch {start.epochs}")
            for line in continued(config, folder.settings(), start.epochs):
                console.say(line)
            remove_leftovers(folder.path)
            since = folder.rewind(config, plan, start.epochs, start.folder / MODEL)
            job = replace(job, start=replace(start, plan_since=since))
    return job, lock


def _warn_about_device(job: Job, predictions: Predictions, console: ConsoleReporter) -> None:
    """Say so if ranks share a device, and before an epoch's activations don't fit on this host, whose ranks
    are the first ones."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", job.plan.num_ranks))
    here, copies = predictions.memory_bytes[:local], predictions.checkpoint_bytes[:local]
    device = choose_device(job.config.device, len(here))
    free, on_one = free_memory_bytes(device), sharers(device, len(here))
    if on_one > 1:
        console.say(f"up to {on_one} processes share a CUDA device; their messages go through host memory")
    needed = on_one * max(here) if device.type == "cuda" else sum(here) + sum(copies)
    if needed > free:
        console.say(
            f"warning: this run needs about {readable_bytes(needed)}, but only {readable_bytes(free)} are "
            f"free on this {'device' if device.type == 'cuda' else 'host'}; lower --hidden or --layers, or "
            f"spread the ranks over more hosts"
        )


def stopped(number: int, folder: RunFolder | None, *, begun: bool) -> StoppedError:
    """A signal ended a run; says what is left of it.

    Args:
        number: of the signal.
        folder: of the run, if it has come so far.
        begun: whether what is in the folder is this run's already.
    """
    return StoppedError(number, saved(folder) if folder and begun else NOTHING_SAVED)


def saved(folder: RunFolder) -> str:
    try:
        return folder.saved()
    except (GnnpipeError, OSError) as error:
        return f"see '{folder.path}' ({error})"
