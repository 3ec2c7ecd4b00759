"""Before the ranks start: hold the run's folder and prepare its job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from gnnpipe.checkpoint.names import MODEL
from gnnpipe.checkpoint.state import remove_leftovers
from gnnpipe.comm.groups import num_groups
from gnnpipe.comm.world import choose_device, sharers
from gnnpipe.config.rates import Plateau
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import continued
from gnnpipe.config.run import Metric
from gnnpipe.errors import GnnpipeError, StoppedError
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.lazy import LazyGraph
from gnnpipe.nn.metrics import LOWER_IS_BETTER
from gnnpipe.planner.memory.peak import on_device
from gnnpipe.planner.predictions import Predictions
from gnnpipe.records.folder import NOTHING_SAVED, RunFolder
from gnnpipe.records.lock import held
from gnnpipe.records.plan_file import PlanFile
from gnnpipe.run.callbacks.callback import Callback
from gnnpipe.run.job import Job, Start, describe_plan, has_estimate, prepare_job
from gnnpipe.run.reporter import Quiet, Reporter
from gnnpipe.run.resume import check_same_code, check_same_graph, start_of
from gnnpipe.system.memory import free_memory_bytes
from gnnpipe.system.words import readable_bytes

Lock = tuple[int, ...]
"""Descriptor of the locked file, if this process holds the run's folder; empty if not."""


@dataclass(frozen=True)
class Request:
    """A run to be prepared and trained."""

    config: Resolved
    """Resolved by `check_config`."""
    reporter: Reporter
    data: Graph | None = None
    """The graph, if it is in memory; None to load it."""
    callbacks: Sequence[Callback] = ()
    """A user's; those that ``config.log`` names are others."""


@dataclass(frozen=True)
class Claim:
    """The folder of a run, and the checkpoint that it starts from."""

    folder: RunFolder
    """Not made yet, unless the run goes on."""
    start: Start | None
    """None for a new run."""
    lock: Lock
    """Empty until the folder of a new run is made."""


def claim(request: Request, folder: RunFolder, held_until: ExitStack) -> Claim:
    """Find out which checkpoint a run starts from. The folder of a run that goes on is locked before its
    checkpoints are read, as a process that still writes there would change them.

    Raises:
        ConfigError: another run holds the folder; also as `start_of`.
        CheckpointError: all checkpoints are damaged.
    """
    lock = (held_until.enter_context(held(folder.path)),) if request.config.resume else ()
    return Claim(folder, start_of(request.config, folder, request.reporter), lock)


def prepare_run(
    request: Request, graph: LazyGraph, claimed: Claim | None, scratch: Path, held_until: ExitStack
) -> tuple[Job, Lock]:
    """Prepare the job. The process that has claimed the run's folder also shows the plan, and makes the
    folder or brings it back to the checkpoint.

    Args:
        request: the run.
        graph: its graph.
        claimed: the run's folder; None in a process that prepares the job for its host alone.
        scratch: folder for the prepared graph.
        held_until: closes when the folder is to be released.
    """
    out = claimed.folder.path if claimed else Path()
    config = request.config
    reporter = request.reporter if claimed else Quiet()
    job, facts, predictions = prepare_job(config, scratch, out, reporter.step, graph)
    if not claimed:
        return job, ()
    plan = describe_plan(job, facts, predictions)
    if claimed.start:
        _compare(request, claimed.folder, claimed.start, job, plan)
    reporter.start(config, plan)
    for line in job.warm_start.notes if job.warm_start else ():
        reporter.say(line)
    _warn_about_device(job, predictions, reporter)
    if config.check_gradient and not has_estimate(job):
        reporter.say("nothing to check: with one chunk the gradient is the exact one")
    # A new run's folder is made and locked only here: nothing is refused any more for its graph or plan.
    folder, start = claimed.folder, claimed.start
    lock = claimed.lock or (held_until.enter_context(held(folder.path)),)
    if start is None:
        folder.create(config, plan)
    else:
        reporter.say(f"going on from epoch {start.epochs}")
        for line in _consequences(config, folder, start, job.metric):
            reporter.say(line)
        remove_leftovers(folder.path)
        since = folder.rewind(config, plan, start.epochs, start.folder / MODEL, over=start.over)
        start = replace(start, plan_since=since)
    return replace(job, start=start), lock


def _compare(request: Request, folder: RunFolder, start: Start, job: Job, plan: PlanFile) -> None:
    """Refuse to go on with another graph, or with other layers of a model of one's own."""
    if request.data or request.config.graph:
        check_same_graph(folder.plan(), plan)
    if job.spec.own is not None:
        for line in check_same_code(folder.stored_plan(), job.spec, start.open()):
            request.reporter.remark(line, warning=True)


def _consequences(config: Resolved, folder: RunFolder, start: Start, metric: Metric) -> list[str]:
    """Lines on what going on from a checkpoint changes, as of `continued`."""
    if start.over:
        whole = start.epochs == config.epochs
        done = f"all {start.epochs} epochs are done" if whole else f"no epoch follows the {start.epochs} done"
        return [f"{done} and only the summary is left; other settings change nothing"]
    records = folder.records()[: start.epochs]
    scores = [(record.epoch, record.scores.val) for record in records if record.scores]
    return continued(config, folder.settings(), start.epochs, scores, Plateau(metric in LOWER_IS_BETTER))


def _warn_about_device(job: Job, predictions: Predictions, reporter: Reporter) -> None:
    """Warn if ranks share a device, or need more memory than is free on this host."""
    # this process is on the host of rank 0, so the ranks here are the first ones
    local = int(os.environ.get("LOCAL_WORLD_SIZE", job.plan.num_ranks))
    here, copies = predictions.memory_bytes[:local], predictions.checkpoint_bytes[:local]
    device = choose_device(job.config.device, len(here))
    free, on_one = free_memory_bytes(device), sharers(device, len(here))
    if device.type == "cuda":  # ranks that share a device exchange by way of host memory, without NCCL
        groups = num_groups(job.plan.num_stages, job.plan.num_parts) if on_one == 1 else 0
        here = [on_device(peak, groups) for peak in here]
    if on_one > 1:
        reporter.say(f"up to {on_one} processes share a CUDA device; their messages go through host memory")
    needed = on_one * max(here) if device.type == "cuda" else sum(here) + sum(copies)
    if free is not None and needed > free:
        reporter.warn(
            f"this run needs about {readable_bytes(needed)}, but only {readable_bytes(free)} are free on "
            f"this {'device' if device.type == 'cuda' else 'host'}; lower --hidden or --layers, or spread "
            f"the ranks over more hosts"
        )


def stopped(number: int, folder: RunFolder | None, *, begun: bool) -> StoppedError:
    """The error of a run that a signal ended, with a line about what is saved.

    Args:
        number: of the signal.
        folder: of the run; None if the signal came before it was chosen.
        begun: whether the content of the folder is this run's already.
    """
    return StoppedError(number, saved(folder) if folder and begun else NOTHING_SAVED)


def saved(folder: RunFolder) -> str:
    """One line about the results that a folder holds, or its path if they can't be read."""
    try:
        return folder.saved()
    except (GnnpipeError, OSError) as error:
        return f"see '{folder.path}' ({error})"
