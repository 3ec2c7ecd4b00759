"""The model of a run's folder: settings, sizes, outputs and weights, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from torch import Tensor

from gnnpipe.checkpoint.names import MODEL
from gnnpipe.config.catalog import SYNTHETIC
from gnnpipe.config.checks import check_fields, check_graph_config
from gnnpipe.config.code.place import is_code
from gnnpipe.config.code.trust import check_code
from gnnpipe.config.keywords import configured
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, DataError, shown
from gnnpipe.export.options import CONVOLUTIONS
from gnnpipe.files.reading import map_tensors
from gnnpipe.graph.data import Task
from gnnpipe.graph.prepare.standard import Standard
from gnnpipe.graph.scaled_features import FeatureScaling
from gnnpipe.nn.models import ModelSpec, fitted, spec_of
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.plan_file import GraphSize
from gnnpipe.records.taking import CONFIG, PLAN, SUMMARY, check_is_run
from gnnpipe.system.failures import reason


@dataclass(frozen=True)
class Reached:
    """The epoch that weights are of, and their scores."""

    gnnpipe: str
    """Version of the package that trained them."""
    dataset: str
    """Name of the graph."""
    best_epoch: int
    """Counted from 0."""
    metric: str
    best_val: float
    """The metric on validation nodes."""
    test_at_best_val: float | None = None
    """The metric on test nodes; None where test labels are hidden."""


@dataclass(frozen=True)
class Trained:
    """A run's model."""

    config: RunConfig
    """Settings of the run."""
    spec: ModelSpec
    """Sizes of the model."""
    task: Task
    """Kind of prediction."""
    class_names: tuple[str, ...]
    """Name of each class; empty where classes are just numbers."""
    standard: Standard
    """With regression, mean and deviation of each value that is predicted."""
    scaling: FeatureScaling
    """The numbers by which features were scaled; none for runs of older versions, which do not say them."""
    weighted: bool | None
    """Whether the edges of its graph had weights; None for runs of older versions, which do not say it."""
    weights: Mapping[str, Tensor]
    """The best weights so far, by name; mapped from the run's file."""
    finished: bool
    """Whether the run is; else they are its best weights so far."""
    reached: Reached | None
    """None in files of older versions, which do not say it."""

    @property
    def regression(self) -> bool:
        """Whether values are predicted, and not classes."""
        return self.task == "regression"


def read_trained(folder: RunFolder, model: str | None = None) -> Trained:
    """Read the model of a run, finished or not. The code of one's own is run.

    Args:
        folder: of the run.
        model: place of the code of a model of one's own, if the user names it; None for the run's.

    Raises:
        ConfigError: the folder is no run's, its settings can't be used, or it has no weights yet.
        DataError: a file is damaged, or the files do not belong together.
    """
    check_is_run(folder.path, "run")
    config = configured(RunConfig(), folder.settings())
    check_fields(config)
    if model is None:
        check_code(config.model, [(folder.path, config.model)])
    elif is_code(config.model):
        config = replace(config, model=model)
    check_graph_config(replace(config, dataset=SYNTHETIC, graph=None))  # the graph itself is not needed
    about, weights = _read_weights(folder)
    spec = _spec_of(folder, config, weights)
    graph = folder.stored_plan().graph
    _check_edges(folder, spec, weighted=bool(graph.weighted))
    if graph.task not in get_args(Task):
        raise DataError(
            f"'{folder.path / PLAN}' says no kind of prediction that is known (task: {shown(graph.task)}); "
            "bring it back, or train anew"
        )
    task: Task = graph.task  # type: ignore[assignment]  # one of its words, as was checked
    standard = _standard_of(folder, graph, spec.num_classes) if task == "regression" else Standard()
    scaling = _scaling_of(folder, graph, spec.num_features)
    names = graph.class_names or ()
    if names and len(names) != spec.num_classes:
        raise DataError(f"'{folder.path / PLAN}' has {len(names)} class_names for {spec.num_classes} classes")
    finished = (folder.path / SUMMARY).exists()
    outputs = (task, names, standard)
    return Trained(config, spec, *outputs, scaling, graph.weighted, weights, finished, _reached(about))


def _read_weights(folder: RunFolder) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of the best weights so far."""
    path = folder.path / MODEL
    try:
        return map_tensors(path)
    except FileNotFoundError:
        raise ConfigError(
            f"run: '{folder.path}' has no {MODEL} yet, which is written at the first evaluation; "
            f"{folder.saved()}"
        ) from None
    except OSError as error:
        raise DataError(f"'{path}' can't be read ({reason(error, str(path))}); bring it back") from None
    except ValueError as error:
        raise DataError(f"'{path}' is damaged ({shown(str(error))}); bring it back") from None


def _spec_of(folder: RunFolder, config: RunConfig, weights: Mapping[str, Tensor]) -> ModelSpec:
    """The model that settings and weights make; raises DataError where they do not fit."""
    asked = spec_of(config, folder.stored_plan().graph.sizes, gcnii=config.gcnii)
    try:
        return fitted(asked, weights)
    except ValueError as error:
        raise DataError(
            f"'{folder.path / MODEL}' does not hold the weights that {CONFIG} describes "
            f"({shown(str(error))}); bring back the run's own"
        ) from None


def _check_edges(folder: RunFolder, spec: ModelSpec, *, weighted: bool) -> None:
    """Refuse what the exported code does not compute: reversible blocks, and for some models weights or
    features of edges."""
    if spec.own is not None:  # its code is exported as it is
        return
    conv = CONVOLUTIONS[spec.model]
    if spec.options.groups > 1:
        raise ConfigError(
            f"run: '{folder.path}' has reversible blocks, which no exported {conv.title} has; predict with "
            "gnnpipe, or train it without --reversible"
        )
    what = "features" if spec.edge_dim else "weights" if weighted and conv.weighs else ""
    if what:
        raise ConfigError(
            f"run: '{folder.path}' was trained with {what} of edges, which the exported {conv.title} does "
            "not read; predict with gnnpipe, or train it without them"
        )


def _standard_of(folder: RunFolder, graph: GraphSize, num_values: int) -> Standard:
    """Mean and deviation of the values, as plan.json has them; raises DataError where it does not."""
    standard = Standard(graph.value_mean or (), graph.value_deviation or ())
    numbers = (*standard.mean, *standard.deviation)
    if not len(standard.mean) == len(standard.deviation) == num_values or not all(
        map(math.isfinite, numbers)
    ):
        raise DataError(
            f"'{folder.path / PLAN}' has no value_mean and value_deviation for {num_values} values; bring it "
            "back, or train anew"
        )
    return standard


def _scaling_of(folder: RunFolder, graph: GraphSize, num_features: int) -> FeatureScaling:
    """The numbers by which features were scaled; raises DataError unless they are for as many columns."""
    scaling = graph.scaling
    for columns in (scaling.degrees, scaling.columns):
        numbers = (*columns.mean, *columns.deviation)
        if numbers and not len(columns.mean) == len(columns.deviation) == num_features:
            raise DataError(
                f"'{folder.path / PLAN}' scales {len(columns.mean)} columns, and the model has "
                f"{num_features} features; bring it back, or train anew"
            )
    return scaling


def _reached(about: Mapping[str, str]) -> Reached | None:
    """The epoch and scores of the weights, from their file; None if that does not say all."""
    test = about.get("test_at_best_val", "hidden")
    try:
        return Reached(
            about["gnnpipe"],
            about["dataset"],
            int(about["best_epoch"]),
            about["metric"],
            float(about["best_val"]),
            None if test == "hidden" else float(test),
        )
    except (KeyError, ValueError):
        return None
