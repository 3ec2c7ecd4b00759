"""A run from its config to its summary, with processes of our own or as one of torchrun's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from gnnpipe.comm.launch import launch_local, warm_up
from gnnpipe.comm.products import check_compute
from gnnpipe.comm.world import choose_device, launched_by_torchrun, speaks
from gnnpipe.config.code.place import is_code
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import changes, with_stored_plan
from gnnpipe.errors import LostRankError, StoppedError
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.lazy import LazyGraph
from gnnpipe.nn.own.code import checksum_of
from gnnpipe.planner.hardware import load_hardware, outdated
from gnnpipe.planner.search import planned
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.taking import SUMMARY
from gnnpipe.run.callbacks.callback import Callback
from gnnpipe.run.callbacks.host import Host
from gnnpipe.run.callbacks.info import info_of
from gnnpipe.run.job import Job, graph_of, outline_of
from gnnpipe.run.preparation import Lock, Request, claim, prepare_run, stopped
from gnnpipe.run.rank import asking_rank_main, rank_main
from gnnpipe.run.reporter import Reporter
from gnnpipe.run.resume import as_far_as_it_got, folder_of, restarted, start_of
from gnnpipe.run.torchrun import train_under_torchrun


def train(
    config: Resolved,
    reporter: Reporter,
    before: Resolved | None = None,
    data: Graph | None = None,
    callbacks: Sequence[Callback] = (),
) -> RunFolder:
    """Prepare and train; return the finished run's folder.

    Args:
        config: resolved by `check_config`.
        reporter: shows the run.
        before: the settings of the run that ``config.resume`` names, as they were.
        data: the graph, if it is in memory; None to load it.
        callbacks: told of the run, in this process.

    Raises:
        UserError: what a user can mend.
        TrainingError: a rank failed, or the numbers went wrong.
        StoppedError: a signal told this process or a rank to end; the finished epochs are saved.
        BaseException: what a callback has raised; likewise.
    """
    if before is not None:
        config = with_stored_plan(config, before, RunFolder(Path(str(config.resume))).plan().plan.num_chunks)
        if speaks():
            for change in changes(config, before):
                reporter.remark(f"from here on: {change}")
    request = Request(config, reporter, data, callbacks)
    return train_under_torchrun(request) if launched_by_torchrun() else _train_here(request)


def train_missing(
    configs: list[Resolved],
    reporter: Reporter,
    data: Graph | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train the runs on one graph that are not finished yet, one after the other. All are checked before the
    first starts, as the last may be hours away. The graph is loaded once, and cut once for each way to cut
    it.

    Args:
        configs: of the runs, with their folders; they name the same graph.
        reporter: shows them.
        data: the graph, if it is in memory; None to load it.
        callbacks: told of each run, in this process.

    Raises:
        ConfigError: a folder holds a run with other settings, and ``overwrite`` is not set.
        PlanError: a plan does not fit the graph or the model.
    """
    with ExitStack() as held_until:
        graph = held_until.enter_context(graph_of(configs[0], reporter, data))
        configs = _with_one_plan(configs, graph, reporter)
        states = [RunFolder(Path(str(config.out))).state(config) for config in configs]
        missing = [
            as_far_as_it_got(config, reporter) if state == "begun" else config
            for config, state in zip(configs, states, strict=True)
            if state != "finished"
        ]
        for config, state in zip(configs, states, strict=True):
            if state != "absent":
                _warn_of_code(config, reporter)
        for config in missing:
            start_of(config, folder_of(config), reporter)
            check_compute(config.compute, choose_device(config.device, config.num_ranks))
            outline_of(config, graph)
        for config, state in zip(configs, states, strict=True):
            if state == "finished":
                reporter.say(f"{config.out}: there already")
        scratch = held_until.enter_context(scratch_folder())
        for config in missing:
            reporter.say(str(config.out))
            _train_here(Request(config, reporter, data, callbacks), graph, scratch)


def _warn_of_code(config: Resolved, reporter: Reporter) -> None:
    """Warn if a run that is there was trained with another version of the code of a model of one's own."""
    if not is_code(config.model):
        return
    before = RunFolder(Path(str(config.out))).stored_plan().model_checksum
    if before and before != checksum_of(config.model):
        reporter.remark(
            f"{config.out}: the code of the model has changed since this run was trained; give another --out "
            "to train all with the same",
            warning=True,
        )


def _train_here(request: Request, graph: LazyGraph | None = None, scratch: Path | None = None) -> RunFolder:
    """Prepare a run and start its ranks on this host.

    Args:
        request: the run.
        graph: its graph, if that is at hand already.
        scratch: folder for what is made of the graph, which may be there from an earlier run.
    """
    folder = folder_of(request.config)
    host = Host.of(request.callbacks, request.config, request.reporter)
    with ExitStack() as held_until:
        try:
            claimed = claim(request, folder, held_until)
            graph = graph or held_until.enter_context(
                graph_of(request.config, request.reporter, request.data)
            )
            request = _with_plan(request, graph)
            warm_up(rank_main, request.reporter)
            scratch = scratch or held_until.enter_context(scratch_folder())
            job, lock = prepare_run(request, graph, claimed, scratch, held_until)
        except StoppedError as error:
            raise stopped(error.number, folder, begun=bool(request.config.resume)) from None
        job = replace(job, asks=bool(host))
        launch = partial(_launch, job, folder, request.reporter, lock, host)
        host.around(launch)
    request.reporter.end(folder)
    if host:
        host.end(folder.read(SUMMARY))
    return folder


def _with_plan(request: Request, graph: LazyGraph) -> Request:
    """Choose the plan if that is asked for, and check that there are devices for it."""
    config, reporter = request.config, request.reporter
    if config.plan == "auto":
        with reporter.step("choosing a plan"):
            config, note = planned(config, graph, config.device)
        reporter.say(note)
    warning = outdated(load_hardware(config.hardware)) if config.hardware else None
    if warning:
        reporter.remark(warning, warning=True)
    check_compute(config.compute, choose_device(config.device, config.num_ranks))
    return replace(request, config=config)


def _with_one_plan(configs: list[Resolved], graph: LazyGraph, reporter: Reporter) -> list[Resolved]:
    """Choose the plan of all runs if that is asked for; they then differ in nothing that it depends on."""
    first = configs[0]
    if first.plan != "auto":
        return configs
    plan = _with_plan(Request(first, reporter), graph).config
    names = [field.name for field in fields(plan) if getattr(plan, field.name) != getattr(first, field.name)]
    return [replace(config, **{name: getattr(plan, name) for name in names}) for config in configs]


def _launch(
    job: Job, folder: RunFolder, reporter: Reporter, lock: Lock = (), host: Host | None = None
) -> None:
    """Run all ranks. If one is lost, run all again from the last checkpoint, up to ``max_restarts`` times,
    unless a callback has raised something."""
    for restart in itertools.count(1):
        try:
            if host:
                host.start(info_of(folder))
                launch_local(asking_rank_main, (job, reporter), job.plan.num_ranks, lock, host)
            else:
                launch_local(rank_main, (job, reporter), job.plan.num_ranks, lock)
            return
        except StoppedError as error:
            raise stopped(error.number, folder, begun=True) from None
        except LostRankError as error:
            if restart > job.config.max_restarts or (host and host.error is not None):
                raise
            job = restarted(job, folder, reporter)
            epochs = job.start.epochs if job.start else 0
            reporter.remark(f"{error}\nrestart {restart} of {job.config.max_restarts}, from epoch {epochs}")
