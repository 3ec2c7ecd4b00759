"""From a config to a job: everything is checked, loaded and cut before any rank starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from gnnpipe.base.config import Metric, RunConfig
from gnnpipe.base.errors import DataError
from gnnpipe.graph.chunks import CutSpec
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.datasets import load_dataset
from gnnpipe.graph.prepared import GraphFacts, PreparedGraph, prepare
from gnnpipe.model.layers.base import Layer
from gnnpipe.model.stack import LayerSpec, ModelSpec, build_stack
from gnnpipe.model.tasks import resolve_metric
from gnnpipe.plan.memory import memory_per_rank
from gnnpipe.plan.plan import Plan, make_plan
from gnnpipe.plan.volume import LayerRows, Volume, halo_bytes, pipeline_bytes, weight_bytes
from gnnpipe.runtime.tables import TableSettings

# A row's dense work in units of an edge's: on CPUs a multiply-add of a matrix product costs about as many
# times less than one of the aggregation as a hidden row is wide, which leaves one edge's work a column.
ROW_COST_PER_COLUMN = 1.0


@dataclass(frozen=True)
class Job:
    """A run that is ready to start; all ranks get the same."""

    config: RunConfig
    """Resolved: nothing is left to a preset."""
    plan: Plan
    spec: ModelSpec
    graph: Path
    """The prepared graph."""
    out: Path
    """The run's folder."""
    metric: Metric


@dataclass(frozen=True)
class Predictions:
    """What the plan says about a run before it starts."""

    volume: Volume
    """Bytes of one epoch over all ranks."""
    rival_bytes: int | None
    """What graph parallelism over as many ranks would send in all."""
    memory_bytes: list[int]
    """Peak of each rank, estimated."""
    bubble: float


def plan_for(config: RunConfig, data: GraphData) -> Plan:
    """The plan of a resolved config on a graph; raises PlanError where they don't fit."""
    return make_plan(config.stages, config.parts, config.chunks, config.layers, data.num_nodes)


def spec_for(config: RunConfig, data: GraphData) -> ModelSpec:
    """What the model is built from."""
    return ModelSpec(
        config.model,
        config.layers,
        config.hidden,
        data.num_features,
        data.num_classes,
        isinstance(data.features, Csr),
        config.seed,
        config.gcnii,
    )


def prepare_graph(config: RunConfig, data: GraphData, plan: Plan, spec: ModelSpec) -> PreparedGraph:
    """Cut, renumber and normalise for a plan."""
    cut = CutSpec(plan.num_parts, plan.num_chunks, ROW_COST_PER_COLUMN * config.hidden, config.part_balance)
    return prepare(data, cut, spec.normalization, num_rivals=plan.num_ranks)


def prepare_job(config: RunConfig, scratch: Path, out: Path) -> tuple[Job, GraphFacts, Predictions]:
    """Load, check, cut, and write the prepared graph to ``scratch``.

    Args:
        config: checked by `gnnpipe.train.checks.check_config`.
        scratch: folder for the prepared graph; the caller removes it.
        out: the run's folder; not touched here.
    """
    data = load_dataset(config)
    metric = resolve_metric(config.metric, data.task)
    if metric == "roc_auc":
        _check_both_classes(data)
    plan = plan_for(config, data)
    spec = spec_for(config, data)
    graph = prepare_graph(config, data, plan, spec)
    path = scratch / "graph.safetensors"
    graph.save(path)
    predictions = predict(config, plan, spec, graph)
    return Job(config, plan, spec, path, out, metric), graph.facts, predictions


def _check_both_classes(data: GraphData) -> None:
    """ROC AUC compares nodes of two classes."""
    for name, mask in data.masks.items():
        if data.labels[mask].unique().numel() < 2:
            raise DataError(
                f"metric: roc_auc is undefined, as all {name} labels are alike; use --metric accuracy "
                "or another --split"
            )


def predict(config: RunConfig, plan: Plan, spec: ModelSpec, graph: PreparedGraph) -> Predictions:
    """Bytes, memory and bubble of a run, from its plan alone."""
    facts = graph.facts
    settings = TableSettings.of(config.staleness, plan.num_chunks, config.halo)
    rows = layer_rows(spec)
    volume = volume_of(
        plan, spec, rows, facts.num_nodes, sum(facts.halo_forward), sum(facts.halo_backward), settings
    )
    rival = None
    if facts.rival_halo is not None:
        one_stage = [0] * len(rows)
        rival = halo_bytes(rows, *facts.rival_halo) + weight_bytes(rows, one_stage, plan.num_ranks)
    return Predictions(volume, rival, _memory(plan, spec, settings, graph), plan.bubble)


def layer_rows(spec: ModelSpec) -> list[LayerRows]:
    """What each layer of the model's stack exchanges between parts."""
    return [
        LayerRows(
            module.width or 0,
            module.returns_gradient(item.number),
            sum(weight.numel() for weight in module.parameters()),
        )
        for item, module in _shapes(spec)
    ]


def volume_of(
    plan: Plan,
    spec: ModelSpec,
    rows: list[LayerRows],
    num_nodes: int,
    halo_forward: int,
    halo_backward: int,
    settings: TableSettings,
) -> Volume:
    """Bytes of one epoch.

    Args:
        plan: stages and parts.
        spec: the model.
        rows: its `layer_rows`.
        num_nodes: N.
        halo_forward: rows that parts read of each other, summed over the parts.
        halo_backward: the same going backward.
        settings: say in how many forms a row goes forward.
    """
    stages = [plan.stage_of(item.convolution) for item in build_stack(spec)]
    streams = 2 if spec.has_initial else 1
    return Volume(
        pipeline_bytes(plan.num_stages, num_nodes, spec.hidden, streams),
        halo_bytes(rows, halo_forward, halo_backward, settings.versions_sent),
        weight_bytes(rows, stages, plan.num_parts),
    )


def _shapes(spec: ModelSpec) -> list[tuple[LayerSpec, Layer]]:
    """The layers without their numbers: shapes are enough for predictions."""
    with torch.device("meta"):
        return [(item, item()) for item in build_stack(spec)]


def _memory(plan: Plan, spec: ModelSpec, settings: TableSettings, graph: PreparedGraph) -> list[int]:
    facts = graph.facts
    matrices = graph.matrix.nbytes + (0 if graph.matrix_t is graph.matrix else graph.matrix_t.nbytes)
    result = []
    for stage in range(plan.num_stages):
        mine = [module for item, module in _shapes(spec) if plan.stage_of(item.convolution) == stage]
        weights = sum(weight.numel() for module in mine for weight in module.parameters())
        for part, num_rows in enumerate(facts.part_nodes):
            share = num_rows / facts.num_nodes
            held = matrices + (8 * facts.feature_entries if stage == 0 else 0)
            result.append(
                memory_per_rank(
                    [(module.saved_columns(), module.width or 0) for module in mine],
                    weights,
                    num_rows,
                    max(facts.halo_forward[part], facts.halo_backward[part]),
                    settings.tables_per_layer,
                    spec.hidden,
                    round(share * held),
                )
            )
    return result


def describe_plan(job: Job, facts: GraphFacts, predictions: Predictions) -> dict[str, Any]:
    """The content of plan.json."""
    plan = {field.name: getattr(job.plan, field.name) for field in fields(job.plan)}
    return {"plan": plan, "graph": asdict(facts), "predictions": asdict(predictions), "metric": job.metric}
