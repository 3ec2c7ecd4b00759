"""From a config to a job: everything is checked, loaded and cut before any rank starts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import gnnpipe
from gnnpipe.checkpoint.storage import StoredCheckpoint
from gnnpipe.checkpoint.warm_start import WarmStart, warm_start
from gnnpipe.config.checks import check_batch_norm
from gnnpipe.config.code.place import is_code
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import GraphConfig, LayoutConfig, Metric, Norm, PartBalance
from gnnpipe.engine.layers.push import check_pushes
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.tables import TableSettings
from gnnpipe.errors import DataError, PlanError, shown
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.folder.read import features_checksum
from gnnpipe.graph.prepare.cache import Recipe
from gnnpipe.graph.prepare.fingerprint import known_fingerprint
from gnnpipe.graph.prepare.lazy import LazyGraph, at_hand
from gnnpipe.graph.prepare.prepared import GraphFacts, PreparedGraph, prepare, prepare_file
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.nn.loss import Loss
from gnnpipe.nn.metrics import OF_RANKS
from gnnpipe.nn.models import ModelSpec, spec_for
from gnnpipe.nn.own.code import checksum_of
from gnnpipe.nn.own.model import check_layers
from gnnpipe.nn.split_metrics import Measure
from gnnpipe.nn.tasks import resolve_metric
from gnnpipe.planner.costs import row_cost
from gnnpipe.planner.exact import exact_plan
from gnnpipe.planner.hardware import Rates, hardware_here
from gnnpipe.planner.memory.rank import pushing_layers
from gnnpipe.planner.predictions import Predictions, convolution_costs, graph_size, predict
from gnnpipe.planner.workload import best_chunks
from gnnpipe.records.plan_file import PlanFile
from gnnpipe.records.record import Best
from gnnpipe.run.reporter import Reporter
from gnnpipe.schedule.plan import Plan, make_plan
from gnnpipe.system.failures import advice, reason
from gnnpipe.system.steps import Step, silently

# Settings that neither the plan nor the model depends on.
NOT_OF_A_PLAN = (
    "graph", "root", "dropout", "devices", "threads", "cuda_graphs", "epochs", "lr", "weight_decay",
    "optimizer", "eval_every", "patience", "check_gradient", "timeout", "checkpoint_every",
    "keep_checkpoints", "max_restarts", "on_nonfinite", "on_write_error", "out", "overwrite", "resume",
    "cache", "warm_start", "log", "loss", "class_weights", "label_smoothing",
)  # fmt: skip


@dataclass(frozen=True)
class Start:
    """The checkpoint that a run goes on from."""

    folder: Path
    epochs: int
    """Number of epochs that are done."""
    plan_since: int = 0
    """First epoch of the plan that the run goes on by."""
    over: bool = False
    """Whether no epoch is left, and only the summary is to be written."""

    def open(self) -> StoredCheckpoint:
        """Read the checkpoint's index; raises CheckpointError."""
        return StoredCheckpoint.open(self.folder)


@dataclass(frozen=True)
class Job:
    """A run that is ready to start. All ranks get the same job, but ``graph`` is a file of their host."""

    config: Resolved
    plan: Plan
    spec: ModelSpec
    graph: Path
    """File of the prepared graph."""
    out: Path
    """The run's folder."""
    metric: Metric
    start: Start | None = None
    """Checkpoint to go on from; None for a new run."""
    warm_start: WarmStart | None = None
    """Weights of another run that a new one begins with, in a file of this host; None for random ones."""
    asks: bool = False
    """Whether there are callbacks, which rank 0 asks after each epoch."""

    @property
    def checkpointing(self) -> bool:
        """Whether checkpoints are written."""
        return self.config.checkpoints.ever

    @property
    def tables(self) -> TableSettings:
        """How the tables of this run treat stale rows."""
        return TableSettings.of(self.config.staleness, self.plan, self.config.halo)

    @property
    def dropout(self) -> DropoutSettings:
        """The settings that dropout masks depend on."""
        config = self.config
        return DropoutSettings(config.dropout, config.seed, config.staleness.dropout_hold)


def has_estimate(job: Job) -> bool:
    """Whether the gradient may differ from the exact one: by several chunks, stale rows, or numbers of fewer
    bits."""
    plan = job.plan
    coded = (plan.wire != "fp32" and plan.num_stages > 1) or not plan.tables == plan.compute == "fp32"
    return plan.num_chunks > 1 or reads_stale_rows(job) or coded


def reads_stale_rows(job: Job) -> bool:
    """Whether the run reads rows of an earlier epoch."""
    return job.plan.reads_stale_rows(stale_halo=job.config.halo == "stale")


def plan_for(config: Resolved, data: Graph) -> Plan:
    """The plan of a run on a graph; raises PlanError, or ConfigError, where they don't fit."""
    staleness = config.staleness
    spec = spec_for(config, data, config.seed, config.gcnii)
    listed = spec.architecture.listed
    if listed is not None:  # its layers are what its function yields, whatever the settings say
        norm: Norm = "batch" if listed.has_batch_norm else "none"
        config = replace(config, layers=spec.layers, hidden=spec.hidden, norm=norm)
        check_batch_norm(config)
    if staleness.lookahead == "exact" or staleness.preset == "exact":
        plan = exact_plan(config, staleness, data)
    else:
        rates = hardware_here(config.hardware, config.device).rates
        plan = _balanced_plan(config, spec, data, staleness.lookahead, rates)
    return replace(
        plan,
        initial=config.initial,
        wire=config.wire,
        tables=config.tables,
        recompute=config.recompute,
        compute=config.compute,
    )


def _balanced_plan(layout: LayoutConfig, spec: ModelSpec, data: Graph, lookahead: int, rates: Rates) -> Plan:
    """A plan with layers shared out by cost, and with the cheapest number of chunks unless it is given."""
    size = graph_size(spec, data)
    costs = convolution_costs(spec, size, rates)
    chunks = 1 if layout.chunks is None else layout.chunks
    plan = make_plan(layout.stages, layout.parts, chunks, layout.layers, data.num_nodes, lookahead, costs)
    if layout.chunks is None and layout.stages > 1:
        chunks = best_chunks(replace(plan, initial=layout.initial), spec, size, rates)
        plan = replace(plan, num_chunks=chunks, lookahead=min(lookahead, chunks - 1))
    return plan


@dataclass(frozen=True)
class Outline:
    """Decisions about a run that are made before its graph is cut."""

    plan: Plan
    spec: ModelSpec
    metric: Metric


def outline_of(config: Resolved, graph: LazyGraph) -> Outline:
    """The plan, the model and the metric of a run; raises UserError where they don't fit the graph."""
    ingredients = {key: value for key, value in asdict(config).items() if key not in NOT_OF_A_PLAN}
    ingredients["rates"] = asdict(hardware_here(config.hardware, config.device).rates)
    if is_code(config.model):
        ingredients["code"] = checksum_of(config.model)
    shape = f"{config.stages} stages x {config.parts} parts"
    return graph.remember("plan", shape, ingredients, Outline, lambda: _outline(config, graph.graph))


def _outline(config: Resolved, data: Graph) -> Outline:
    # ranks make the loss of the same labels; here it is to fail before they start
    Loss.of(config, data.task, data.labels, data.train_mask, data.num_classes)
    metric = resolve_metric(config.metric, data.task)
    if metric in OF_RANKS:
        _check_both_kinds(data, metric)
    plan, spec = plan_for(config, data), spec_for(config, data, config.seed, config.gcnii)
    check_pushes(pushing_layers(spec), config.staleness, plan, config.halo)
    return Outline(plan, spec, metric)


def recipe_of(plan: Plan, spec: ModelSpec, balance: PartBalance = "nodes") -> Recipe:
    """How a graph is prepared for a plan."""
    cut = CutSpec(plan.num_parts, plan.num_chunks, row_cost(spec.hidden), balance, plan.exact)
    return Recipe(cut, spec.normalization, plan.num_ranks, spec.reads_edges)


def prepare_graph(data: Graph, plan: Plan, spec: ModelSpec, balance: PartBalance = "nodes") -> PreparedGraph:
    """Cut, renumber and normalise a graph for a plan."""
    recipe = recipe_of(plan, spec, balance)
    return prepare(data, recipe.cut, recipe.normalization, recipe.num_rivals, reads_edges=recipe.reads_edges)


def graph_of(
    config: Resolved, reporter: Reporter, data: Graph | None = None
) -> AbstractContextManager[LazyGraph]:
    """The graph of a run with its cache; what is found there stays until this context closes.

    Args:
        config: names the graph and the cache.
        reporter: shows what is being done.
        data: the graph, if it is in memory; None to load it.
    """

    def load() -> Graph:
        return data or load_dataset(config, step=reporter.step)

    known = None if data else known_fingerprint(config)
    return at_hand(config.data_name, config.cache, load, reporter.step, reporter.say, known)


def prepare_job(
    config: Resolved, scratch: Path, out: Path, step: Step = silently, graph: LazyGraph | None = None
) -> tuple[Job, GraphFacts, Predictions]:
    """Load, check and cut the graph, write it to a file, and predict what the run will need.

    Args:
        config: checked by `gnnpipe.config.checks.check_config`.
        scratch: folder for the prepared graph, where the cache does not keep it; the caller removes it.
        out: the run's folder; not touched here.
        step: shows what is being done.
        graph: the graph, with its cache, as `graph_of` makes it; None to load it.
    """
    graph = graph or LazyGraph(lambda: load_dataset(config, step=step))
    outline = outline_of(config, graph)
    plan, spec = outline.plan, outline.spec
    if spec.own is not None:
        with step(f"trying the layers of {shown(spec.model)}"):
            check_layers(spec.own)
    path = prepared_file(graph, recipe_of(plan, spec, config.part_balance), scratch, step)
    prepared = PreparedGraph.load(path)
    if plan.exact and prepared.width > plan.lookahead:
        raise PlanError(
            f"staleness.lookahead: the graph was planned to be {plan.lookahead} chunks wide and is "
            f"{prepared.width}; give --chunks, or use --staleness.lookahead 0 (one chunk)"
        )
    warm = None
    if config.warm_start and not config.resume:
        with step(f"reading the weights of '{shown(config.warm_start)}'"):
            warm = warm_start(config.warm_start, spec, scratch / "weights.safetensors")
    job = Job(config, plan, spec, path, out, outline.metric, warm_start=warm)
    predictions = predict(
        plan,
        spec,
        prepared,
        job.tables,
        drops=config.dropout > 0,
        checks=config.check_gradient > 0,
        checkpoints=job.checkpointing,
        ranked_labels=Measure.of(outline.metric, prepared.facts).num_rankings,
    )
    return job, prepared.facts, predictions


def prepared_file(graph: LazyGraph, recipe: Recipe, scratch: Path, step: Step) -> Path:
    """The file of the prepared graph: in the cache if there is one, else in ``scratch``."""

    def write(path: Path) -> None:
        data = graph.graph
        with step(f"cutting {data.num_nodes:,} nodes and {data.num_edges:,} edges"):
            prepare_file(
                data,
                recipe.cut,
                recipe.normalization,
                path,
                recipe.num_rivals,
                reads_edges=recipe.reads_edges,
            )

    cached = graph.prepared(recipe, write)
    if cached is not None:
        return cached
    path = scratch / f"graph-{recipe.key}.safetensors"
    if path.exists():  # made for an earlier run on the same graph
        return path
    try:
        write(path)
    except OSError as error:
        raise DataError(
            f"TMPDIR: can't write the prepared graph to '{scratch}' ({reason(error, str(path))}); "
            f"{advice(error)} with TMPDIR"
        ) from None
    return path


def _check_both_kinds(data: Graph, metric: Metric) -> None:
    """Raise DataError if a split has no nodes to compare: of two classes, or with and without one label."""
    instead = "f1" if data.task == "multilabel" else "accuracy"
    for name, mask in data.masks.items():
        hidden = name == "test" and not mask.any()
        labels = data.labels[mask]
        if not hidden and not bool((labels != labels[:1]).any()):
            raise DataError(
                f"metric: {metric} is undefined, as all {name} labels are alike; use --metric {instead} "
                "or another --split"
            )


def about_model(job: Job, best: Best, facts: GraphFacts) -> dict[str, str]:
    """Metadata of model.safetensors: the model, and what its weights reach.

    With regression also how to read its rows: a value is mean + deviation x the row's entry.

    Args:
        job: the run.
        best: the epoch of the weights.
        facts: numbers of the graph.
    """
    spec = job.spec
    values = {"value_mean": list(facts.value_mean), "value_deviation": list(facts.value_deviation)}
    about = {
        "gnnpipe": gnnpipe.__version__,
        "dataset": job.config.data_name,
        "model": spec.model,
        "layers": spec.layers,
        "hidden": spec.hidden,
        "features": spec.num_features,
        "classes": spec.num_classes,
        "metric": job.metric,
        "best_val": best.val,
        "test_at_best_val": "hidden" if best.test is None else best.test,
        "best_epoch": best.epoch,
        **(values if facts.value_mean else {}),
    }
    return {key: str(value) for key, value in about.items()}


def describe_plan(job: Job, facts: GraphFacts, predictions: Predictions) -> PlanFile:
    """The content of plan.json."""
    return PlanFile(
        job.plan, facts, predictions, job.metric, checksum_of_features(job.config), job.spec.checksum
    )


def checksum_of_features(config: GraphConfig) -> str:
    """That of the features in a graph folder; empty for other graphs, and for features that are made.

    Raises:
        DataError: the folder holds no graph any more.
    """
    return features_checksum(Path(config.graph)) if config.graph and not config.features else ""
