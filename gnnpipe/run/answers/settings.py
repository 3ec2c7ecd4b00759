"""The settings of a prediction: those of its run, with another graph or other processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gnnpipe.config.catalog import IN_MEMORY, SYNTHETIC
from gnnpipe.config.checks import check_config, check_fields, check_graph_folder
from gnnpipe.config.code.place import is_code
from gnnpipe.config.code.trust import check_code
from gnnpipe.config.commands import PredictConfig
from gnnpipe.config.keywords import configured
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import ELSEWHERE
from gnnpipe.config.roots import check_root, place_key
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.reading import Content


@dataclass(frozen=True)
class Asked:
    """The settings that a prediction is made with."""

    config: Resolved
    """Those of the run, with the graph and the processes of the prediction."""
    own: bool
    """Whether the graph is the run's own."""
    lines: tuple[str, ...] = ()
    """Lines for the user: where data are read from, if the run and not the user has named the folder."""


def settings_for(
    asked: PredictConfig, run: Path, stored: Content, shape: tuple[int, int], *, given: bool = False
) -> Asked:
    """Put together the settings of a prediction.

    Args:
        asked: what the user wants.
        run: folder of the run.
        stored: the content of its config.yaml.
        shape: stages and parts of its last plan.
        given: whether the graph is another one that is in memory.

    Raises:
        ConfigError: a value that can't be used, or a graph that is not at hand.
    """
    check_fields(asked)
    before = _settings_of(run, stored)
    own = not (given or asked.graph or asked.dataset)
    _check_graph(asked, before, run, own=own, given=given)
    lines = _code(asked, before, run)
    before = replace(before, model=asked.model or before.model)
    processes = _processes(asked, before, shape)
    resolved = check_config(replace(before, **_graph(asked, before, own=own, given=given), **processes))
    check_graph_folder(resolved)
    if own and not (asked.root and place_key(resolved) == "root"):
        lines += check_root(resolved, [(run, stored.get(place_key(before)))])
    return Asked(replace(resolved, dataset=IN_MEMORY) if given else resolved, own, tuple(lines))


def _settings_of(run: Path, stored: Content) -> RunConfig:
    try:
        given = {key: value for key, value in stored.items() if key not in ELSEWHERE}
        return configured(RunConfig(), given)
    except ConfigError as error:
        raise ConfigError(f"run: the settings of '{run}' can't be used: {error}") from None


def _code(asked: PredictConfig, before: RunConfig, run: Path) -> list[str]:
    """Lines about the code of the run's model; raises ConfigError where it can't be trusted, or is none."""
    if asked.model is None:
        return check_code(before.model, [(run, before.model)])
    if not (is_code(asked.model) and is_code(before.model)):
        raise ConfigError(
            f"model: '{shown(asked.model)}' is not the {shown(before.model)} that '{run}' was trained with; "
            "leave it out"
        )
    return []


def _processes(asked: PredictConfig, before: RunConfig, shape: tuple[int, int]) -> Content:
    """The fields that say which processes run; the plan is known, so that none is searched for."""
    return {
        "stages": asked.stages or shape[0],
        "parts": asked.parts or shape[1],
        "plan": "given",
        "devices": None,
        "hardware": None,
        "device": asked.device or before.device,
        "threads": before.threads if asked.threads is None else asked.threads,
        "cache": asked.cache,
    }


def _check_graph(asked: PredictConfig, before: RunConfig, run: Path, *, own: bool, given: bool) -> None:
    """Refuse graphs that contradict each other, or one that is not at hand."""
    if asked.graph and asked.dataset:
        raise ConfigError(f"dataset: {asked.dataset} is another graph than --graph; leave one of the two out")
    if given and (asked.graph or asked.dataset or asked.root):
        raise ConfigError("graph: data is the graph already; leave graph, dataset and root out")
    if own and before.dataset == IN_MEMORY:
        raise ConfigError(
            f"graph: '{run}' was trained on a graph in memory; give that, or another one, as in "
            f"gnnpipe.open('{run}').predict(data), or the folder of one with --graph"
        )
    if asked.root and (asked.graph or (own and before.graph)):
        raise ConfigError("root: a graph folder has none; leave it out")


def _graph(asked: PredictConfig, before: RunConfig, *, own: bool, given: bool) -> Content:
    """The fields that name the graph."""
    if given:
        return {"dataset": SYNTHETIC, "graph": None, "root": None}
    if own:
        return {"root": asked.root or before.root}
    return {"dataset": asked.dataset or SYNTHETIC, "graph": asked.graph, "root": asked.root}
