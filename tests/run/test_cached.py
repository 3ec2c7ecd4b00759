"""Runs whose prepared graph comes from a cache are the same runs."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gnnpipe
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig, StalenessConfig, SyntheticConfig
from gnnpipe.errors import DataError
from gnnpipe.graph.data import Graph
from gnnpipe.graph.folder.write import save_graph
from gnnpipe.graph.prepare.lazy import LazyGraph
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.run import job as job_module
from gnnpipe.run.job import NOT_OF_A_PLAN, graph_of, outline_of, prepare_job
from gnnpipe.run.reporter import Quiet
from tests.graphs import random_graph

SMALL: dict[str, Any] = {
    "synthetic": SyntheticConfig(num_nodes=300, blocks_per_class=2),
    "layers": 4,
    "hidden": 8,
    "epochs": 4,
    "eval_every": 2,
    "threads": 1,
    "checkpoint_every": 2,
}


class Lines(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def losses(run: gnnpipe.Run) -> list[object]:
    return [record["loss"] for record in run.records()]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [{"stages": 2, "chunks": 3}, {"parts": 2}])
def test_losses_are_the_same(shape: dict[str, int], tmp_path: Path) -> None:
    runs = [
        gnnpipe.train(out=tmp_path / name, cache=cache, verbose=False, **SMALL, **shape)
        for name, cache in (("without", None), ("new", tmp_path / "cache"), ("found", tmp_path / "cache"))
    ]
    assert losses(runs[0]) == losses(runs[1]) == losses(runs[2])
    weights = {(run.folder / "model.safetensors").read_bytes() for run in runs}
    assert len(weights) == 1
    assert "cache" not in (runs[2].folder / "config.yaml").read_text()


def test_a_run_goes_on_with_the_graph_of_the_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = gnnpipe.train(out=tmp_path / "whole", verbose=False, **{**SMALL, "epochs": 6})
    run = gnnpipe.train(out=tmp_path / "run", cache=cache, verbose=False, **SMALL)
    again = gnnpipe.resume(run, cache=cache, epochs=6, verbose=False)
    assert losses(again) == losses(whole)
    assert len([path for path in cache.iterdir() if (path / "content").stat().st_size > 2000]) == 1


def prepare(
    config: RunConfig, where: Path, data: Graph | None = None
) -> tuple[PreparedGraph, Path, list[str]]:
    reporter, checked = Lines(), check_config(config)
    with graph_of(checked, reporter, data) as graph:
        job, facts, _ = prepare_job(checked, where, where / "out", graph=graph)
        prepared = PreparedGraph.load(job.graph)
        assert prepared.facts == facts
    return prepared, job.graph, reporter.lines


def test_a_second_start_does_not_load_the_built_in_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(cache=str(tmp_path / "cache"), **SMALL)
    first, path, lines = prepare(config, tmp_path)
    assert path.is_relative_to(tmp_path / "cache")
    assert lines[0].startswith("cached in")

    def refuse(*_: object, **__: object) -> Graph:
        raise AssertionError

    monkeypatch.setattr(job_module, "load_dataset", refuse)
    second, again, lines = prepare(replace(config, lr=0.1, epochs=9), tmp_path)
    assert again == path
    assert lines[0].startswith("prepared graph from the cache")
    assert second.facts == first.facts


def test_a_second_start_does_not_load_a_graph_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_graph(random_graph(40, 150), tmp_path / "mine")
    config = RunConfig(graph=str(tmp_path / "mine"), cache=str(tmp_path / "cache"), layers=2, hidden=4)
    first, path, lines = prepare(config, tmp_path)
    assert lines[0].startswith("cached in")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine").rename(tmp_path / "elsewhere" / "mine")
    load = job_module.load_dataset
    monkeypatch.setattr(job_module, "load_dataset", lambda *_, **__: pytest.fail("it is loaded"))
    moved = replace(config, graph=str(tmp_path / "elsewhere" / "mine"))
    second, again, _ = prepare(moved, tmp_path)
    assert (again, second.facts) == (path, first.facts)
    monkeypatch.setattr(job_module, "load_dataset", load)
    assert prepare(replace(moved, features="degree"), tmp_path)[1] != path
    save_graph(random_graph(40, 150, seed=2), Path(str(moved.graph)), overwrite=True)
    assert prepare(moved, tmp_path)[1] != path
    with pytest.raises(DataError, match="graph"):
        prepare(config, tmp_path)


def test_values_to_be_predicted_are_cached_with_their_units(tmp_path: Path) -> None:
    graph = random_graph(40, 150)
    labels = torch.arange(40.0).unsqueeze(1) * 3
    values = replace(graph, labels=labels, num_classes=1, regression=True)
    config = RunConfig(cache=str(tmp_path / "cache"), layers=2, hidden=4)
    first, second = (prepare(config, tmp_path, values)[0] for _ in range(2))
    assert second.facts == first.facts
    assert second.facts.value_mean
    assert torch.equal(second.labels, first.labels)


def test_exact_plans_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longest: the graph is cut into many numbers of chunks to find the best."""
    data = planted_partition(SyntheticConfig(num_nodes=300, blocks_per_class=2, reach=1))
    config = check_config(
        RunConfig(cache=str(tmp_path / "cache"), stages=2, layers=4, staleness=StalenessConfig("exact"))
    )
    with graph_of(config, Quiet(), data) as graph:
        first = outline_of(config, graph)
    monkeypatch.setattr(job_module, "exact_plan", lambda *_: pytest.fail("it is computed again"))
    with graph_of(config, Quiet(), data) as graph:
        assert outline_of(config, graph) == first
    assert first.plan.note


def test_a_graph_in_memory_is_known_by_its_content(tmp_path: Path) -> None:
    config = RunConfig(cache=str(tmp_path / "cache"), layers=2, hidden=4)
    graph = random_graph(40, 150)
    paths = [prepare(config, tmp_path, data)[1] for data in (graph, graph, random_graph(40, 150, seed=2))]
    assert paths[0] == paths[1] != paths[2]


class Remembering(LazyGraph):
    """Keeps the ingredients that it is asked with."""

    def remember(self, what: str, cut: str, ingredients: object, kind: type, make: Any) -> Any:
        self.ingredients = ingredients
        return make()


def others(item: Any) -> dict[str, Any]:
    """For each field that has one, another value that can be used."""
    found: dict[str, Any] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, bool):
            found[field.name] = not value
        elif isinstance(value, int | float) and field.name not in ("dropout", "split"):
            found[field.name] = value + 1
    return found | {
        "model": "sage",
        "halo": "stale",
        "initial": "recompute",
        "wire": "int8",
        "tables": "bf16",
        "part_balance": "work",
        "staleness": StalenessConfig("paper"),
        "synthetic": SyntheticConfig(num_nodes=200),
        "metric": "macro_f1",
        "hardware": "a100",
    }


def test_settings_that_a_plan_depends_on_are_ingredients() -> None:
    data = random_graph(40, 150)

    def ingredients(config: RunConfig) -> object:
        graph = Remembering(lambda: data)
        outline_of(check_config(config), graph)
        return graph.ingredients

    config = RunConfig(model="resgcn")  # of which everything can be asked
    before = ingredients(config)
    for name, value in others(config).items():
        if name in ("stages", "parts", "chunks"):
            value = 2
        if name == "label_smoothing":  # below 1
            value = 0.5
        assert (ingredients(replace(config, **{name: value})) == before) == (name in NOT_OF_A_PLAN), name
    assert all(name in asdict(config) or is_dataclass(config) for name in NOT_OF_A_PLAN)
