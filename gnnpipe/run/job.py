"""From a config to a job: everything is checked, loaded and cut before any rank starts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import gnnpipe
from gnnpipe.checkpoint.storage import StoredCheckpoint
from gnnpipe.config.every import parse_every
from gnnpipe.config.presets import parse_lookahead
from gnnpipe.config.run import Metric, RunConfig
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.errors import DataError, PlanError
from gnnpipe.graph.chunks import CutSpec
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.datasets import load_dataset
from gnnpipe.graph.prepared import GraphFacts, PreparedGraph, prepare
from gnnpipe.nn.models import ModelSpec
from gnnpipe.nn.tasks import resolve_metric
from gnnpipe.planner.costs import row_cost
from gnnpipe.planner.exact import exact_plan
from gnnpipe.planner.hardware import hardware_here
from gnnpipe.planner.predictions import Predictions, convolution_costs, graph_size, predict
from gnnpipe.planner.workload import best_chunks
from gnnpipe.schedule.plan import Plan, make_plan
from gnnpipe.system.failures import advice, reason

Step = Callable[[str], AbstractContextManager[None]]
"""Says what is done while it is done."""


@dataclass(frozen=True)
class Start:
    """The checkpoint that a run goes on from."""

    folder: Path
    epochs: int
    """That are done."""
    plan_since: int = 0
    """The epoch from which the plan is the one that goes on."""

    def open(self) -> StoredCheckpoint:
        """Read its index; raises CheckpointError."""
        return StoredCheckpoint.open(self.folder)


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
    start: Start | None = None
    """Where to go on; None to begin."""

    @property
    def checkpointing(self) -> bool:
        """Whether checkpoints are written."""
        return parse_every(self.config.checkpoint_every).ever


def has_estimate(job: Job) -> bool:
    """Whether the gradient comes about in another way than the exact one, so that they may be compared."""
    coded = job.plan.wire != "fp32" and job.plan.num_stages > 1
    return job.plan.num_chunks > 1 or reads_stale_rows(job) or coded or job.plan.tables != "fp32"


def reads_stale_rows(job: Job) -> bool:
    """Whether rows of an earlier epoch are read."""
    return job.plan.reads_stale_rows(job.config.halo)


def plan_for(config: RunConfig, data: GraphData) -> Plan:
    """The plan of a resolved config on a graph; raises PlanError where they don't fit."""
    lookahead = parse_lookahead(config.staleness.lookahead)
    plan = (
        exact_plan(config, data)
        if lookahead is None or config.staleness.preset == "exact"
        else _balanced_plan(config, data, lookahead)
    )
    return replace(
        plan, initial=config.initial, wire=config.wire, tables=config.tables, recompute=config.recompute
    )


def _balanced_plan(config: RunConfig, data: GraphData, lookahead: int) -> Plan:
    """Layers shared out by cost and, unless their number is given, as many chunks as cost suggests."""
    spec = spec_for(config, data)
    size, rates = graph_size(spec, data), hardware_here(config).rates
    costs = convolution_costs(spec, size, rates)
    chunks = 1 if config.chunks is None else config.chunks
    plan = make_plan(config.stages, config.parts, chunks, config.layers, data.num_nodes, lookahead, costs)
    if config.chunks is None and config.stages > 1:
        chunks = best_chunks(replace(plan, initial=config.initial), spec, size, rates)
        plan = replace(plan, num_chunks=chunks, lookahead=min(lookahead, chunks - 1))
    return plan


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


def dropout_settings(config: RunConfig) -> DropoutSettings:
    """What the masks of a resolved config depend on."""
    assert config.staleness.dropout_hold is not None
    return DropoutSettings(config.dropout, config.seed, config.staleness.dropout_hold)


def prepare_graph(config: RunConfig, data: GraphData, plan: Plan, spec: ModelSpec) -> PreparedGraph:
    """Cut, renumber and normalise for a plan."""
    cut = CutSpec(plan.num_parts, plan.num_chunks, row_cost(config.hidden), config.part_balance, plan.exact)
    graph = prepare(data, cut, spec.normalization, num_rivals=plan.num_ranks)
    if plan.exact and graph.width > plan.lookahead:
        raise PlanError(
            f"staleness.lookahead: the graph was planned to be {plan.lookahead} chunks wide and is "
            f"{graph.width}; give --chunks, or use --staleness.lookahead 0 (one chunk)"
        )
    return graph


def silently(_: str) -> AbstractContextManager[None]:
    """For steps that nobody wants to hear of."""
    return nullcontext()


def prepare_job(
    config: RunConfig, scratch: Path, out: Path, step: Step = silently, data: GraphData | None = None
) -> tuple[Job, GraphFacts, Predictions]:
    """Load, check, cut, and write the prepared graph to ``scratch``.

    Args:
        config: checked by `gnnpipe.config.checks.check_config`.
        scratch: folder for the prepared graph; the caller removes it.
        out: the run's folder; not touched here.
        step: told what is done while it is done.
        data: the graph, where it need not be loaded.
    """
    if data is None:
        with step(f"loading {config.dataset}"):
            data = load_dataset(config)
    metric = resolve_metric(config.metric, data.task)
    if metric == "roc_auc":
        _check_both_classes(data)
    path = scratch / "graph.safetensors"
    with step(f"cutting {data.num_nodes:,} nodes and {data.num_edges:,} edges"):
        plan = plan_for(config, data)
        spec = spec_for(config, data)
        graph = prepare_graph(config, data, plan, spec)
        try:
            graph.save(path)
        except OSError as error:
            raise DataError(
                f"TMPDIR: can't write the prepared graph to '{scratch}' ({reason(error, str(path))}); "
                f"{advice(error)} with TMPDIR"
            ) from None
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


def about_model(job: Job, best: dict[str, Any]) -> dict[str, str]:
    """What model.safetensors says of itself: whose weights they are, and what they reach.

    Args:
        job: the run.
        best: epoch and scores, as summary.json has them.
    """
    spec = job.spec
    scores = {key: value for key, value in best.items() if key != "classes"}  # those are counts by class
    found = {
        "gnnpipe": gnnpipe.__version__,
        "dataset": job.config.dataset,
        "model": spec.model,
        "layers": spec.layers,
        "hidden": spec.hidden,
        "features": spec.num_features,
        "classes": spec.num_classes,
        "metric": job.metric,
        **scores,
    }
    return {key: str(value) for key, value in found.items()}


def describe_plan(job: Job, facts: GraphFacts, predictions: Predictions) -> dict[str, Any]:
    """The content of plan.json."""
    plan = {field.name: getattr(job.plan, field.name) for field in fields(job.plan)}
    return {"plan": plan, "graph": asdict(facts), "predictions": asdict(predictions), "metric": job.metric}
