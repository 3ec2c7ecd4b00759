"""Runs that were never trained: a folder with drawn weights, and what the engine computes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

import gnnpipe
from gnnpipe.comm.groups import Links
from gnnpipe.config.catalog import IN_MEMORY
from gnnpipe.config.checks import check_config
from gnnpipe.config.keywords import configured
from gnnpipe.config.run import GcniiConfig, RunConfig
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import sweep
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.graph.sources.datasets import as_graph
from gnnpipe.nn.models import ModelSpec, Options
from gnnpipe.planner.predictions import Predictions
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.plan_file import PlanFile
from gnnpipe.schedule.volume import Volume
from tests.harness import Case, make_engine, make_stage

NUM_NODES, NUM_FEATURES, NUM_CLASSES = 24, 6, 3
ABOUT = {
    "gnnpipe": "0.1.0", "dataset": "drawn", "metric": "accuracy", "best_val": "0.5", "best_epoch": "3",
    "test_at_best_val": "0.25",
}  # fmt: skip


@dataclass(frozen=True)
class OptionsCase(Case):
    """A case with constants of GCNII."""

    gcnii: GcniiConfig = field(default_factory=GcniiConfig)

    @property
    def spec(self) -> ModelSpec:
        return replace(super().spec, gcnii=self.gcnii)


@dataclass(frozen=True)
class Made:
    """A run's folder, and the rows that the engine's evaluation gives with its weights."""

    run: gnnpipe.Run
    case: Case
    weights: dict[str, Tensor]
    logits: Tensor
    """By original node id; with regression in standardised units."""
    prepared: PreparedGraph


def drawn(seed: int = 0, *, weighted: bool = False, sparse: bool = False, **changes: Any) -> Data:
    """A directed graph with self loops and parallel edges, of loops too; the last 3 nodes are isolated."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(NUM_NODES - 3, (2, 3 * NUM_NODES), generator=generator)
    edges = torch.cat([edges, torch.tensor([[0, 0, 1, 2], [0, 0, 2, 1]]), edges[:, :5]], dim=1)
    x = torch.randn(NUM_NODES, NUM_FEATURES, generator=generator)
    if sparse:
        x[torch.rand(x.shape, generator=generator) > 0.05] = 0.0
        x[0, 0] = 1.5
    values: dict[str, Any] = {
        "x": x,
        "edge_index": edges,
        "y": torch.arange(NUM_NODES) % NUM_CLASSES,
        "train_mask": torch.arange(NUM_NODES) % 4 < 2,
        "val_mask": torch.arange(NUM_NODES) % 4 == 2,
        "test_mask": torch.arange(NUM_NODES) % 4 == 3,
    }
    if weighted:
        values["edge_weight"] = 3 * torch.rand(edges.shape[1], generator=generator)
        values["edge_weight"][::9] = 0.0
    return Data(**values | changes)


def made_run(folder: Path, data: Data | Graph, *, drawn_biases: bool = True, **changes: Any) -> Made:
    """Write the folder of a run on a graph, with drawn weights.

    Args:
        folder: of the run.
        data: the graph.
        drawn_biases: whether weights that begin at 0 or 1, as biases, are drawn too.
        changes: fields of `RunConfig`.
    """
    checked = check_config(configured(RunConfig(), {"hidden": 8, "layers": 4, "threads": 1} | changes))
    config = replace(checked, dataset=IN_MEMORY)
    graph = as_graph(data, config)
    sizes = (config.model, config.layers, config.hidden)
    case = OptionsCase(
        graph, *sizes, dropout=config.dropout, epochs=1, gcnii=config.gcnii, options=Options.of(config)
    )
    prepared = case.graph()
    stage = make_stage(case, graph=prepared)
    if drawn_biases:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for weight in stage.modules.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
            for name, buffer in stage.modules.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.add_(torch.rand(buffer.shape, generator=generator))
    weights = weights_of(stage)
    predictions = Predictions(Volume(0, 0, 0), None, [0], [0], 0.0, 1.0)
    plan = PlanFile(case.plan(1), prepared.facts, predictions, "auto")
    run = RunFolder(folder)
    run.create(config, plan)
    run.write_model(weights, ABOUT)
    return Made(gnnpipe.open(folder), case, weights, swept(case, stage), prepared)


def weights_of(stage: Stage) -> dict[str, Tensor]:
    """Weights by the names that they have in a run's file."""
    return {
        f"{layer.spec.name}.{name}": weight.detach().clone()
        for layer in stage.held_layers
        for name, weight in layer.module.state_dict().items()
    }


def swept(case: Case, stage: Stage) -> Tensor:
    """Rows of the engine's evaluation, by original node id."""
    _, messages = make_engine(case, stage, Links())
    found = [(data.node_id, logits.clone()) for data, logits in sweep(stage, messages)]
    ids, rows = torch.cat([ids for ids, _ in found]), torch.cat([rows for _, rows in found])
    return rows[torch.argsort(ids)]


def given(data: Data, x: Tensor | None = None) -> tuple[Tensor, ...]:
    """The arguments of an exported module for a graph."""
    edges = (data.edge_index,) if data.edge_weight is None else (data.edge_index, data.edge_weight)
    return (data.x if x is None else x, *edges)


def predicted(module: torch.nn.Module, arguments: tuple[Tensor, ...]) -> Tensor:
    """Output without gradients."""
    with torch.no_grad():
        rows: Tensor = module(*arguments)
    return rows


def in_double(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers as float64."""
    return {name: weight.double() for name, weight in weights.items()}
