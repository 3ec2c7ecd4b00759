"""Runs from Python: in a script, a notebook, a thread, or each process of torchrun.

A script needs no ``if __name__ == "__main__":``, as the processes of a run import this package and not the
script.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gnnpipe.comm.world import launched_by_torchrun, speaks
from gnnpipe.config.catalog import GRAPH_FILE, IN_MEMORY, SYNTHETIC, dataset_names
from gnnpipe.config.checks import (
    check_config,
    check_fields,
    check_graph_config,
    check_graph_folder,
    check_plan_config,
)
from gnnpipe.config.commands import PlanConfig, PredictConfig
from gnnpipe.config.keywords import configured, values_of
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import check_resumed, stored_settings
from gnnpipe.config.roots import check_root, place_key
from gnnpipe.config.run import GraphConfig, RunConfig
from gnnpipe.errors import ConfigError, shown
from gnnpipe.export.module import export, to_module
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.datasets import as_graph, load_dataset
from gnnpipe.planner.hardware import load_hardware, outdated
from gnnpipe.planner.question import question_of
from gnnpipe.planner.search import Candidate, search
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.seeds import check_holds_seeds, parse_seeds, seed_folder
from gnnpipe.records.taking import SUMMARY, check_is_run
from gnnpipe.report.compare import Comparison
from gnnpipe.report.console import ConsoleReporter
from gnnpipe.report.notebook import frame, in_notebook
from gnnpipe.report.seeds import Seeds
from gnnpipe.report.show import html_of, one_line, show
from gnnpipe.run import session
from gnnpipe.run.answers.ask import ask
from gnnpipe.run.answers.results import Answers, Embeddings, Predictions
from gnnpipe.run.callbacks.callback import STOP as STOP
from gnnpipe.run.callbacks.callback import Callback
from gnnpipe.run.callbacks.callback import RunInfo as RunInfo
from gnnpipe.run.callbacks.csv_table import CSV as CSV
from gnnpipe.run.callbacks.early_stopping import EarlyStopping as EarlyStopping
from gnnpipe.run.callbacks.host import checked
from gnnpipe.run.callbacks.mlflow import MLflow as MLflow
from gnnpipe.run.callbacks.tensorboard import TensorBoard as TensorBoard
from gnnpipe.run.callbacks.wandb import WandB as WandB
from gnnpipe.run.reporter import Quiet, Reporter
from gnnpipe.system.pages import ask_for_huge_pages

if TYPE_CHECKING:
    import pandas

_Config = TypeVar("_Config", RunConfig, PlanConfig, GraphConfig)


@dataclass(frozen=True, repr=False)
class Run:
    """A run, read from its folder: one that is finished, still goes on or was interrupted."""

    folder: Path
    data: Any = field(default=None, compare=False)
    """The graph in memory that this process has trained it on; predictions are of that unless another is
    given. None for a run on a graph by name, and for one that was opened."""

    def __fspath__(self) -> str:
        """The folder: a run stands for it wherever a path is expected."""
        return str(self.folder)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done and the summary is written."""
        return (self.folder / SUMMARY).exists()

    @property
    def config(self) -> RunConfig:
        """The settings of the run, with the values of its preset filled in."""
        return configured(RunConfig(), RunFolder(self.folder).settings() | {"out": self.folder})

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; raises ConfigError if the run is not finished."""
        folder = RunFolder(self.folder)
        if not self.finished:
            raise ConfigError(f"run: '{self.folder}' has no {SUMMARY} yet; {folder.saved()}")
        return folder.read(SUMMARY)

    def records(self) -> list[dict[str, object]]:
        """One record for each epoch so far, as in records.jsonl."""
        return RunFolder(self.folder).lines()

    def predict(self, data: Any = None, **options: Any) -> Predictions:
        """What the best weights so far predict for the nodes of a graph; see `gnnpipe.predict`."""
        return predict(self, data, **options)

    def embed(self, layer: int = -1, data: Any = None, **options: Any) -> Embeddings:
        """Hidden rows of the nodes of a graph, with the best weights so far.

        Args:
            layer: number of convolutions that the rows have gone through. 0: those of the input layer, in
                models that have one (gcnii, resgcn). -1: the last ones, of which logits are made; -2: those
                before.
            data: as for `predict`.
            options: as for `predict`.

        Raises:
            UserError: the model has no such layer. Also as `predict`.
        """
        if isinstance(layer, bool) or not isinstance(layer, int):
            raise ConfigError(f"layer: '{shown(layer)}' can't be used; expected a whole number")
        answers = _answers(self, data, {**options, "embed": layer})
        assert isinstance(answers, Embeddings)
        return answers

    def to_pyg(self) -> torch.nn.Module:
        """The model with its best weights so far, as a module of torch_geometric's layers in evaluation mode.

        ``model(x, edge_index, edge_weight=None)`` takes the tensors of the graph as they were before training
        and returns logits or, with regression, values in their own units. It is what `export` writes; the
        docstring of its ``forward`` says what it expects. ``torch.save`` its ``state_dict()``, not itself, as
        its class is in no file.

        Raises:
            UserError: the run has no weights yet, or its files are damaged.
        """
        return to_module(RunFolder(self.folder))

    def export(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the module that `to_pyg` returns: its code, which needs no gnnpipe, and its weights.

        Args:
            out: folder, which appears when it is complete.
            overwrite: whether to replace an exported model that stands there.

        Returns:
            ``out``.

        Raises:
            UserError: something else stands there or it can't be written; also as `to_pyg`.
        """
        path = _path("out", out, "a folder to write")
        export(RunFolder(self.folder), path, overwrite=overwrite)
        return path

    def frame(self) -> pandas.DataFrame:
        """The records as a DataFrame, by epoch; raises ConfigError where pandas is not installed."""
        return frame(self.records(), "epoch")

    def show(self) -> None:
        """Print the result and draw the learning curves, as ``gnnpipe show`` does; in a notebook, show both.

        Under torchrun only the first process does.

        Raises:
            ConfigError: the folder holds no run any more.
            DataError: a file of the run is damaged.
        """
        if speaks():
            show(str(self.folder), as_json=False)

    def __repr__(self) -> str:
        return one_line(self.folder)

    def _repr_html_(self) -> str:
        return html_of(self.folder)


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
    asked = _asked(RunConfig(), config, data, changes, train)
    if asked.resume:
        raise ConfigError(f"resume: use gnnpipe.resume('{shown(asked.resume)}') to go on with a run")
    return _trained(asked, data, _reporter(verbose), listening)


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
            must have as many nodes, edges, features and classes as before, and values to be predicted with
            the same mean and deviation; nothing else is compared.
        callbacks, verbose: as for `train`. A run does not remember the callbacks that it had.
        changes: other settings from here on, such as ``epochs=400`` or another plan. The graph and the model
            stay.

    Raises:
        UserError: nothing is left to do, or what was given makes it another run. Also as `train`.
    """
    listening = checked(callbacks)
    path = _path("resume", folder.folder if isinstance(folder, Run) else folder)
    for key in ("out", "overwrite", "resume", "config"):
        if key in changes:
            raise ConfigError(f"{key}: a run goes on in its folder and with its settings; leave it out")
    settings = stored_settings(path)
    try:
        before = _checked(configured(RunConfig(), settings))
    except ConfigError as error:
        raise ConfigError(f"resume: the settings of '{path}' can't be used: {error}") from None
    if before.dataset == IN_MEMORY and not _in_memory(data):
        raise ConfigError(
            f"data: '{path}' was trained on a graph in memory; give that again, as in "
            f"gnnpipe.resume('{path}', data)"
        )
    asked = _asked(configured(RunConfig(), settings), None, data, changes, resume)
    if asked.staleness.preset != before.staleness.preset:
        # the stored settings hold values that the old preset chose; the new one is to choose them anew
        kept = {key: value for key, value in settings.items() if key not in ("staleness", "optimizer")}
        asked = _asked(configured(RunConfig(), kept), None, data, changes, resume)
    reporter = _reporter(verbose)
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
    numbers = parse_seeds(seeds if isinstance(seeds, str) else ",".join(map(str, seeds)))
    asked = _asked(RunConfig(), config, data, changes, train_seeds)
    folder = _path("out", out)
    check_holds_seeds(folder)
    folders = {seed: seed_folder(folder, seed) for seed in numbers}
    configs = [
        _checked(replace(asked, seed=seed, out=str(path), resume=None)) for seed, path in folders.items()
    ]
    check_graph_folder(asked)
    reporter = _reporter(verbose)
    graph = as_graph(data, configs[0], reporter.step) if _in_memory(data) else None
    ask_for_huge_pages()
    with _threads_kept():
        session.train_missing(configs, reporter, graph)
    return Seeds.of(folders)


def load(data: str | os.PathLike[str] = SYNTHETIC, **changes: Any) -> Graph:
    """Load a graph, checked and ready to train on.

    Args:
        data: a data set's name, or a graph folder, which ``gnnpipe import`` has written.
        changes: fields of `gnnpipe.config.run.GraphConfig`, such as ``root="data/Planetoid"``,
            ``features="degree"`` or ``undirected=True``.

    Raises:
        UserError: a ValueError that says what can't be used, and what can.
    """
    if _in_memory(data):
        raise ConfigError(
            f"data: an object of type {type(data).__name__} can't be loaded; name a data set or a graph "
            "folder"
        )
    asked = _asked(GraphConfig(), None, data, changes, load)
    check_graph_config(asked)
    check_graph_folder(asked)
    check_fields(asked)
    return load_dataset(asked)


def open(folder: str | os.PathLike[str]) -> Run:  # noqa: A001 (it is written gnnpipe.open)
    """The run in a folder, finished or not; raises ConfigError if the folder holds none."""
    path = _path("run", folder)
    check_is_run(path, "run")
    return Run(path)


def predict(run: Run | str | os.PathLike[str], data: Any = None, **options: Any) -> Predictions:
    """What a run's best weights so far predict for the nodes of a graph.

    Args:
        run: the run, or its folder.
        data: another graph with the same features: a data set's name, a graph folder (a path), a `Graph`, or
            a ``torch_geometric.data.Data``, which need no labels. By default the graph that the run was
            trained on; if that was one in memory, of another process, it has to be given again.
        options: ``nodes``: numbers of the nodes that are wanted, or ``"train"``, ``"val"`` or ``"test"`` of
            the run's own graph. ``verbose``: as for `train`. Fields of
            `gnnpipe.config.commands.PredictConfig`, such as ``out="predictions.csv"``, ``parts=4`` or
            ``device="cpu"``.

    Returns:
        Arrays in the order in which the graph was given.

    Raises:
        UserError: a ValueError that says what can't be used, and what can.
        TrainingError: a process failed, or numbers are not finite.
    """
    if "embed" in options:
        raise ConfigError("embed: hidden rows come from the method embed of a run")
    answers = _answers(run, data, options)
    assert isinstance(answers, Predictions)
    return answers


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
    return Comparison.of([_path("runs", run.folder if isinstance(run, Run) else run) for run in runs])


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
    asked = _asked(PlanConfig(), config, data, changes, plan)
    if _in_memory(data) and asked.num_nodes is not None:
        raise ConfigError("num_nodes: it stands for a graph that is not at hand; leave out data")
    checked = check_plan_config(replace(asked, dataset=SYNTHETIC) if _in_memory(data) else asked)
    hardware = load_hardware(checked.hardware)
    if warning := outdated(hardware):
        warnings.warn(warning, stacklevel=2)
    graph = as_graph(data, checked) if _in_memory(data) else None
    return search(checked, question_of(checked, graph), hardware)


def _asked(
    default: _Config,
    config: _Config | None,
    data: Any,
    changes: Mapping[str, Any],
    call: Callable[..., object],
) -> _Config:
    """The config that a call asks for: ``default``, then ``config``, then ``data`` and ``changes``.

    Args:
        default: settings that nobody has changed.
        config: those of an object; None for the default.
        data: a graph in memory, or what names it.
        changes: settings given as keywords.
        call: function that was called; a keyword that is not known may be one of its own.

    Raises:
        ConfigError: an unknown keyword, a value of the wrong type, or two data sets.
    """
    if config is not None and not isinstance(config, type(default)):
        given = type(config).__name__ if is_dataclass(config) else shown(config)
        raise ConfigError(
            f"config: '{given}' can't be used; expected a {type(default).__name__}, or its fields as keywords"
        )
    if _in_memory(changes.get("dataset")):
        raise ConfigError(
            f"dataset: '{shown(changes['dataset'])}' can't be used; expected a name; give a graph in memory "
            "as data, the first argument"
        )
    if data is not None:
        for key in ("dataset", "graph"):
            if key in changes:
                raise ConfigError(f"{key}: data names the graph already; leave one of the two out")
        changes = {**changes, **_named(data)}
    return configured(configured(default, values_of(config or default)), changes, others=_keywords(call))


def _keywords(call: Callable[..., object]) -> list[str]:
    """Names of the arguments of a function, without those that it takes by any name."""
    parameters = inspect.signature(call).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]


def _in_memory(data: Any) -> bool:
    return data is not None and not isinstance(data, str | os.PathLike)


def _named(data: Any) -> dict[str, object]:
    """The fields that name a graph: a data set of that name, a folder, or one that is in memory."""
    if _in_memory(data):
        return {"dataset": IN_MEMORY, "graph": None}
    name = os.fspath(data)
    is_name = isinstance(data, str) and name.lower() in {known.lower() for known in dataset_names()}
    is_folder = not isinstance(data, str) or os.sep in name or (Path(name) / GRAPH_FILE).exists()
    in_folder = is_folder and not is_name
    return {"dataset": SYNTHETIC, "graph": name} if in_folder else {"dataset": name, "graph": None}


def _checked(config: RunConfig) -> Resolved:
    """As `check_config`, also where the data set is a graph in memory, which no name stands for."""
    if config.dataset != IN_MEMORY:
        return check_config(config)
    return replace(check_config(replace(config, dataset=SYNTHETIC)), dataset=IN_MEMORY)


def _answers(run: Run | str | os.PathLike[str], data: Any, options: Mapping[str, Any]) -> Answers:
    """Ask a run about the nodes of a graph."""
    path = _path("run", run.folder if isinstance(run, Run) else run)
    check_is_run(path, "run")
    fields = dict(options)
    reporter = _reporter(fields.pop("verbose", False))
    nodes = fields.pop("nodes", "all")
    if isinstance(nodes, str):
        fields["nodes"], nodes = nodes, None
    if data is None and isinstance(run, Run) and not fields.keys() & {"dataset", "graph"}:
        data = run.data
    if data is not None and not _in_memory(data):
        for key in ("dataset", "graph"):
            if key in fields:
                raise ConfigError(f"{key}: data names the graph already; leave one of the two out")
        named = _named(data)
        fields |= {"graph": named["graph"], "dataset": None if named["graph"] else named["dataset"]}
    wanted = configured(PredictConfig(), fields)
    ask_for_huge_pages()
    with _threads_kept():
        return ask(path, wanted, reporter, data if _in_memory(data) else None, nodes)


def _path(key: str, folder: object, expected: str = "the folder of a run") -> Path:
    """A folder that a caller names; raises ConfigError, which names ``key``, for another kind of object."""
    if not isinstance(folder, str | os.PathLike):
        raise ConfigError(f"{key}: '{shown(folder)}' can't be used; expected {expected}")
    return Path(folder)


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
    config = _checked(asked)
    check_graph_folder(asked)
    if before is not None:
        check_resumed(config, before)
    graph: Graph | None = as_graph(data, config, reporter.step) if _in_memory(data) else None
    ask_for_huge_pages()
    with _threads_kept():
        folder = session.train(config, reporter, before, graph, callbacks).path
    return Run(folder, data if graph else None)


def _reporter(verbose: object) -> Reporter:
    if not isinstance(verbose, bool):
        raise ConfigError(f"verbose: '{shown(verbose)}' can't be used; expected True or False")
    return ConsoleReporter(plain=in_notebook()) if verbose else Quiet()


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Restore PyTorch's number of threads, which preparing a run changes in the caller's process."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
