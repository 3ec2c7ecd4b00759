"""Calls that train nothing: load, open, predict, compare, plan."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

from gnnpipe.api.asking import asked_for, in_memory, path_of
from gnnpipe.api.run import Run
from gnnpipe.config.catalog import SYNTHETIC
from gnnpipe.config.checks import (
    check_fields,
    check_graph_config,
    check_graph_folder,
    check_plan_config,
)
from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.run import GraphConfig
from gnnpipe.errors import ConfigError
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.datasets import as_graph, load_dataset
from gnnpipe.planner.hardware import load_hardware, outdated
from gnnpipe.planner.question import question_of
from gnnpipe.planner.search import Candidate, search
from gnnpipe.records.taking import check_is_run
from gnnpipe.report.compare import Comparison
from gnnpipe.run.answers.results import Predictions


def load(data: str | os.PathLike[str] = SYNTHETIC, **changes: Any) -> Graph:
    """Load a graph, checked and ready to train on.

    Args:
        data: a data set's name, or a graph folder, which ``gnnpipe import`` has written.
        changes: fields of `gnnpipe.config.run.GraphConfig`, such as ``root="data/Planetoid"``,
            ``features="degree"`` or ``undirected=True``.

    Raises:
        UserError: a ValueError that says what can't be used, and what can.
    """
    if in_memory(data):
        raise ConfigError(
            f"data: an object of type {type(data).__name__} can't be loaded; name a data set or a graph "
            "folder"
        )
    asked = asked_for(GraphConfig(), None, data, changes, load)
    check_graph_config(asked)
    check_graph_folder(asked)
    check_fields(asked)
    return load_dataset(asked)


def open(folder: str | os.PathLike[str]) -> Run:  # noqa: A001 (it is written gnnpipe.open)
    """The run in a folder, finished or not; raises ConfigError if the folder holds none."""
    path = path_of("run", folder)
    check_is_run(path, "run")
    return Run(path)


def predict(run: Run | str | os.PathLike[str], data: Any = None, **options: Any) -> Predictions:
    """Predict the nodes of a graph with the best weights of a run so far.

    Args:
        run: the run, or its folder.
        data: another graph with the same features: a data set's name, a graph folder (a path), a `Graph`, or
            a ``torch_geometric.data.Data``, which need no labels. By default the graph that the run was
            trained on; if that was one in memory, of another process, it has to be given again.
        options: ``nodes``: numbers of the nodes that are wanted, a mask of all nodes, or ``"train"``,
            ``"val"`` or ``"test"`` of the run's own graph. ``verbose``: as for `train`. Fields of
            `gnnpipe.config.commands.PredictConfig`, such as ``out="predictions.csv"``, ``parts=4`` or
            ``device="cpu"``.

    Returns:
        Arrays in the order in which the graph was given.

    Raises:
        UserError: a ValueError that says what can't be used, and what can.
        TrainingError: a process failed, or numbers are not finite.
    """
    return (run if isinstance(run, Run) else open(run)).predict(data, **options)


def compare(*runs: str | os.PathLike[str] | Run) -> Comparison:
    """Finished runs side by side: accuracy, median epoch, bytes by kind, where the time goes, peak memory.

    Args:
        runs: two or more, or their folders. The first is what the others are compared with.

    Raises:
        ConfigError: a folder holds no finished run.
        DataError: a file of a run is damaged.
    """
    if len(runs) < 2:
        raise ConfigError(
            "runs: there is nothing to compare; give two or more, as in gnnpipe.compare(a, b), or "
            "gnnpipe.compare(*runs)"
        )
    return Comparison.of([path_of("runs", run.folder if isinstance(run, Run) else run) for run in runs])


def plan(data: Any = None, *, config: PlanConfig | None = None, **changes: Any) -> list[Candidate]:
    """Simulate all plans for a graph, a model and some devices. The fastest comes first, those that don't fit
    into memory last.

    Args:
        data: as for `train`.
        config: settings. ``data`` and ``changes`` win over it.
        changes: fields of `PlanConfig`, such as ``devices=8, layers=64, hardware="a100"``. With ``num_nodes``
            and ``num_edges`` no data is needed.

    Raises:
        UserError: a value that can't be used, or no plan fits.
    """
    asked = asked_for(PlanConfig(), config, data, changes, plan)
    if in_memory(data) and asked.num_nodes is not None:
        raise ConfigError("num_nodes: it stands for a graph that is not at hand; leave out data")
    checked = check_plan_config(replace(asked, dataset=SYNTHETIC) if in_memory(data) else asked)
    hardware = load_hardware(checked.hardware)
    if warning := outdated(hardware):
        warnings.warn(warning, stacklevel=2)
    graph = as_graph(data, checked) if in_memory(data) else None
    return search(checked, question_of(checked, graph), hardware)
