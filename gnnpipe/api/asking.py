"""Arguments of a call: settings, graph, and where progress is shown."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from gnnpipe.config.catalog import GRAPH_FILE, IN_MEMORY, SYNTHETIC, dataset_names
from gnnpipe.config.checks import check_config
from gnnpipe.config.code.options import with_given
from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.keywords import configured, values_of
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import GraphConfig, ModelConfig, RunConfig
from gnnpipe.errors import ConfigError, shown
from gnnpipe.report.console import ConsoleReporter
from gnnpipe.report.notebook import in_notebook
from gnnpipe.run.reporter import Quiet, Reporter

_Config = TypeVar("_Config", RunConfig, PlanConfig, GraphConfig)


def asked_for(
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
    if in_memory(changes.get("dataset")):
        raise ConfigError(
            f"dataset: '{shown(changes['dataset'])}' can't be used; expected a name; give a graph in memory "
            "as data, the first argument"
        )
    if data is not None:
        for key in ("dataset", "graph"):
            if key in changes:
                raise ConfigError(f"{key}: data names the graph already; leave one of the two out")
        changes = {**changes, **named(data)}
    asked = configured(configured(default, values_of(config or default)), changes, others=_keywords(call))
    return with_given(asked, changes.keys()) if isinstance(asked, ModelConfig) else asked


def _keywords(call: Callable[..., object]) -> list[str]:
    """Names of the arguments of a function, without those that it takes by any name."""
    parameters = inspect.signature(call).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]


def in_memory(data: Any) -> bool:
    return data is not None and not isinstance(data, str | os.PathLike)


def named(data: Any) -> dict[str, object]:
    """The fields that name a graph: a data set of that name, a folder, or one that is in memory."""
    if in_memory(data):
        return {"dataset": IN_MEMORY, "graph": None}
    name = os.fspath(data)
    is_name = isinstance(data, str) and name.lower() in {known.lower() for known in dataset_names()}
    is_folder = not isinstance(data, str) or os.sep in name or (Path(name) / GRAPH_FILE).exists()
    in_folder = is_folder and not is_name
    return {"dataset": SYNTHETIC, "graph": name} if in_folder else {"dataset": name, "graph": None}


def checked_config(config: RunConfig) -> Resolved:
    """As `check_config`, also where the data set is a graph in memory, which no name stands for."""
    if config.dataset != IN_MEMORY:
        return check_config(config)
    return replace(check_config(replace(config, dataset=SYNTHETIC)), dataset=IN_MEMORY)


def path_of(key: str, folder: object, expected: str = "the folder of a run") -> Path:
    """A folder that a caller names; raises ConfigError, which names ``key``, for another kind of object."""
    if not isinstance(folder, str | os.PathLike):
        raise ConfigError(f"{key}: '{shown(folder)}' can't be used; expected {expected}")
    return Path(folder)


def reporter_for(verbose: object) -> Reporter:
    if not isinstance(verbose, bool):
        raise ConfigError(f"verbose: '{shown(verbose)}' can't be used; expected True or False")
    return ConsoleReporter(plain=in_notebook()) if verbose else Quiet()


@contextmanager
def threads_kept() -> Iterator[None]:
    """Restore PyTorch's number of threads, which preparing a run changes in the caller's process."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
