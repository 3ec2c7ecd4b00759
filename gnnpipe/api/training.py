"""Runs from Python: train, go on, train with several seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from gnnpipe.api.asking import asked_for, checked_config, in_memory, path_of, reporter_for, threads_kept
from gnnpipe.api.run import Run
from gnnpipe.comm.world import launched_by_torchrun
from gnnpipe.config.catalog import IN_MEMORY
from gnnpipe.config.checks import (
    check_graph_folder,
)
from gnnpipe.config.code.trust import check_code
from gnnpipe.config.keywords import configured
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import check_resumed, stored_settings
from gnnpipe.config.roots import check_root, place_key
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, shown
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.datasets import as_graph
from gnnpipe.records.seeds import check_holds_seeds, parse_seeds, seed_folder
from gnnpipe.report.seeds import Seeds
from gnnpipe.run import session
from gnnpipe.run.callbacks.callback import Callback
from gnnpipe.run.callbacks.host import checked
from gnnpipe.run.reporter import Reporter
from gnnpipe.system.pages import ask_for_huge_pages


def train(
    data: Any = None,
    *,
    config: RunConfig | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
    **changes: Any,
) -> Run:
    """Train a deep GNN on one whole graph, with ``stages * parts`` processes.

    Under torchrun each of its processes calls this and is one rank. Each returns the run, as soon as its
    folder is complete.

    Args:
        data: a data set's name; a graph folder (a path); a `Graph`; or a ``torch_geometric.data.Data`` with
            ``x``, ``y``, ``edge_index`` and perhaps ``edge_weight`` and masks. By default the built-in graph.
            Other attributes of a Data are not used; a warning names them.
        config: settings. ``data`` and ``changes`` win over it.
        callbacks: objects of classes derived from `Callback`. They are called in this process, in this order,
            and may end the run.
        verbose: print what ``gnnpipe train`` prints. By default nothing is printed but warnings, which go to
            Python's logging, as ``gnnpipe``.
        changes: fields of `RunConfig`. A nested one is given whole, or as a dict of the fields to change:
            ``optimizer={"schedule": "cosine"}``.

    Raises:
        UserError: a ValueError that says what can't be used, and what can.
        TrainingError: a rank failed, or the numbers went wrong.
        StoppedError: a KeyboardInterrupt, after the epoch is finished and saved.
        BaseException: what a callback has raised, as it is; likewise.
    """
    listening = checked(callbacks)
    asked = asked_for(RunConfig(), config, data, changes, train)
    if asked.resume:
        raise ConfigError(f"resume: use gnnpipe.resume('{shown(asked.resume)}') to go on with a run")
    return _trained(asked, data, reporter_for(verbose), listening)


def resume(
    folder: str | os.PathLike[str] | Run,
    data: Any = None,
    *,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
    **changes: Any,
) -> Run:
    """Go on with a run from its last checkpoint, with its settings.

    Args:
        folder: of the run.
        data: the graph again, if the run was trained on one in memory, or its folder, if that has moved. It
            must have the edges, labels and splits of before, as many features, and those of a folder
            unchanged.
        callbacks, verbose: as for `train`. A run does not remember the callbacks that it had.
        changes: other settings from here on, such as ``epochs=400`` or another plan. The graph and the model
            stay.

    Raises:
        UserError: nothing is left to do, or what was given makes it another run. Also as `train`.
    """
    listening = checked(callbacks)
    path = path_of("resume", folder.folder if isinstance(folder, Run) else folder)
    for key in ("out", "overwrite", "resume", "config"):
        if key in changes:
            raise ConfigError(f"{key}: a run goes on in its folder and with its settings; leave it out")
    settings = stored_settings(path)
    try:
        before = checked_config(configured(RunConfig(), settings))
    except ConfigError as error:
        raise ConfigError(f"resume: the settings of '{path}' can't be used: {error}") from None
    if before.dataset == IN_MEMORY and not in_memory(data):
        raise ConfigError(
            f"data: '{path}' was trained on a graph in memory; give that again, as in "
            f"gnnpipe.resume('{path}', data)"
        )
    asked = asked_for(configured(RunConfig(), settings), None, data, changes, resume)
    if asked.staleness.preset != before.staleness.preset:
        # the stored settings hold values that the old preset chose; the new one is to choose them anew
        kept = {key: value for key, value in settings.items() if key not in ("staleness", "optimizer")}
        asked = asked_for(configured(RunConfig(), kept), None, data, changes, resume)
    reporter = reporter_for(verbose)
    if "model" not in changes:
        for line in check_code(asked.model, [(path, settings.get("model"))]):
            reporter.remark(line)
    key = place_key(asked)
    if key not in changes and data is None:
        for line in check_root(asked, [(path, settings.get(key))]):
            reporter.remark(line)
    return _trained(replace(asked, out=str(path), resume=str(path)), data, reporter, listening, before)


def train_seeds(
    seeds: Iterable[int] | str,
    data: Any = None,
    *,
    out: str | os.PathLike[str],
    config: RunConfig | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
    **changes: Any,
) -> Seeds:
    """Train once with each seed, and return the runs with their mean and standard deviation.

    The graph is prepared once. Runs that are in ``out`` already are not run again, so that the same call goes
    on after an interruption.

    Args:
        seeds: numbers, or a text such as ``"0..9"`` or ``"0,3,7"``.
        data: as for `train`.
        out: folder of the runs, which are in ``seed-0`` and so on.
        config: as for `train`.
        callbacks: as for `train`; each run calls the same objects, from ``on_train_start`` on.
        verbose: as for `train`.
        changes: as for `train`.

    Raises:
        ConfigError: a folder holds a run with other settings, and ``overwrite`` is not set. Also as `train`.
    """
    for key in ("seed", "resume"):
        if key in changes:
            raise ConfigError(f"{key}: it says nothing about several seeds; leave it out")
    if launched_by_torchrun():
        raise ConfigError("seeds: several runs start their processes themselves; run this without torchrun")
    listening = checked(callbacks)
    if not isinstance(seeds, Iterable):
        raise ConfigError(f"seeds: '{shown(seeds)}' can't be used; name each, as in [0, 1, 2] or \"0..2\"")
    numbers = parse_seeds(seeds if isinstance(seeds, str) else ",".join(map(str, seeds)))
    asked = asked_for(RunConfig(), config, data, changes, train_seeds)
    folder = path_of("out", out)
    check_holds_seeds(folder)
    folders = {seed: seed_folder(folder, seed) for seed in numbers}
    configs = [
        checked_config(replace(asked, seed=seed, out=str(path), resume=None))
        for seed, path in folders.items()
    ]
    check_graph_folder(asked)
    reporter = reporter_for(verbose)
    graph = as_graph(data, configs[0], reporter.step) if in_memory(data) else None
    ask_for_huge_pages()
    with threads_kept():
        session.train_missing(configs, reporter, graph, listening)
    return Seeds.of(folders)


def _trained(
    asked: RunConfig,
    data: Any,
    reporter: Reporter,
    callbacks: Sequence[Callback],
    before: Resolved | None = None,
) -> Run:
    """Check and train what was asked for.

    Args:
        asked: as the caller gave it, unchecked.
        data: a graph in memory; anything else is a name or a folder, which ``asked`` has.
        reporter: told of the run.
        callbacks: told of it, too.
        before: the settings of the run that goes on, as they were; None for a new run.
    """
    config = checked_config(asked)
    check_graph_folder(asked)
    if before is not None:
        check_resumed(config, before)
    graph: Graph | None = as_graph(data, config, reporter.step) if in_memory(data) else None
    ask_for_huge_pages()
    with threads_kept():
        folder = session.train(config, reporter, before, graph, callbacks).path
    return Run(folder, data if graph else None)
