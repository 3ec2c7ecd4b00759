"""Runs that were never trained, with weights drawn at random, and answers of one rank in this process."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gnnpipe.comm.groups import Links, Talk
from gnnpipe.comm.world import World
from gnnpipe.config.catalog import IN_MEMORY
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import GcniiConfig, Model, RunConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.lazy import LazyGraph
from gnnpipe.graph.sources.datasets import as_graph
from gnnpipe.nn.models import build_stack
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import Best
from gnnpipe.run.answers import predict, rank
from gnnpipe.run.answers.rank import Question
from gnnpipe.run.job import about_model, describe_plan, prepare_job
from tests.graphs import dense, random_graph, weighted_adjacency
from tests.harness import Case
from tests.reference import dense_adjacency, model

MODELS: tuple[Model, ...] = ("gcn", "sage", "gcnii", "resgcn")


def directed(num_nodes: int = 40, seed: int = 0, **changes: Any) -> Graph:
    """A directed graph of weighted edges whose last five nodes have none."""
    generator = torch.Generator().manual_seed(seed)
    source, target = torch.randint(num_nodes - 5, (2, 4 * num_nodes), generator=generator)
    edges = torch.stack([source, target])[:, source != target].unique(dim=1)
    weight = 0.1 + 3 * torch.rand(edges.shape[1], generator=generator)
    plain = random_graph(num_nodes, 0, seed=seed, **changes)
    return replace(plain, adjacency=weighted_adjacency(edges, weight, num_nodes), weighted=True)


def made_run(path: Path, data: Any, *, finished: bool = True, **settings: Any) -> RunFolder:
    """The folder of a run on a graph in memory, as it is after the first evaluation, or at the end."""
    settings = {"layers": 4, "hidden": 8, "epochs": 4, "threads": 1, "device": "cpu"} | settings
    config = replace(check_config(RunConfig(**settings)), dataset=IN_MEMORY)
    graph = as_graph(data, config)
    scratch = path.parent / f"{path.name}-scratch"
    scratch.mkdir()
    job, facts, predictions = prepare_job(config, scratch, path, graph=LazyGraph(lambda: graph))
    folder = RunFolder(path)
    folder.create(config, describe_plan(job, facts, predictions))
    generator = torch.Generator().manual_seed(3)
    weights = {
        f"{layer.name}.{name}": weight + 0.1 * torch.randn(weight.shape, generator=generator)
        for layer in build_stack(job.spec)
        for name, weight in layer().state_dict().items()
    }
    best = Best(0.754321, 0.5, 1, None)
    folder.write_model({name: weight.contiguous() for name, weight in weights.items()},
                       about_model(job, best, facts))  # fmt: skip
    if finished:
        (path / "summary.json").write_text("{}")
    return folder


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """Let one rank answer here; return the list of what it is asked."""
    asked: list[Question] = []
    world = World(0, 1, torch.device("cpu"), Talk(), Links(), Talk())
    monkeypatch.setattr(rank, "joined", lambda config, store: nullcontext(world))
    monkeypatch.setattr(predict, "warm_up", lambda function: None)

    def launch(function: Any, arguments: tuple[Question], num_ranks: int, ending: str) -> None:
        assert num_ranks == 1
        asked.extend(arguments)
        function(*arguments, "")

    monkeypatch.setattr(predict, "launch_local", launch)
    return asked


def expected(folder: RunFolder, data: Graph, features: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """Logits, and hidden rows of all layers, from the model's formula and the run's file of weights.

    Args:
        folder: of the run.
        data: the graph.
        features: its features as the model is to read them.
    """
    from safetensors.torch import load_file

    settings = folder.settings()
    case = Case(data, settings["model"], settings["layers"], settings["hidden"])
    assert case.spec.gcnii == GcniiConfig()
    given = dense(data.features) if isinstance(data.features, Csr) else data.features
    hidden: list[Tensor] = []
    weights = load_file(folder.path / "model.safetensors")
    read = given.float() if features is None else features
    A = dense_adjacency(data, case.model)
    if case.model == "sage":  # a mean counts edges, whatever their weights
        A = dense(data.adjacency)
        A = A / (A != 0).sum(dim=1, keepdim=True).clamp(min=1)
    return model(case, weights, A, read, None, hidden), hidden
