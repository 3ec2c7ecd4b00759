"""From a request to a question for ranks: everything is checked, loaded and cut before any starts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from gnnpipe.config.commands import Nodes
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import LayoutConfig
from gnnpipe.errors import ConfigError, DataError, UserError, shown
from gnnpipe.files.writing import make_folder
from gnnpipe.graph.data import Graph
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.prepare.fingerprint import task_fingerprint
from gnnpipe.graph.prepare.lazy import LazyGraph
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.graph.scaled_features import Columns, FeatureScaling
from gnnpipe.graph.sources.datasets import as_graph, as_unlabelled, load_unlabelled
from gnnpipe.nn.models import ModelSpec, build_stack
from gnnpipe.records.folder import RunFolder
from gnnpipe.run.answers.rank import Question
from gnnpipe.run.answers.results import Answers, Embeddings, Predictions
from gnnpipe.run.answers.trained import TrainedRun
from gnnpipe.run.job import checksum_of_features, graph_of, prepared_file, recipe_of
from gnnpipe.run.reporter import Reporter
from gnnpipe.schedule.plan import Plan, make_plan

# Fields of a graph that say what is known of its nodes.
ANSWERS = (
    "labels", "num_classes", "train_mask", "val_mask", "test_mask", "hidden_test", "regression",
    "class_names",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A question about a graph."""

    folder: RunFolder
    """The run that is asked."""
    config: Resolved
    """Its settings, with the graph, the processes and the device of the prediction."""
    own: bool
    """Whether the graph is the one that the run was trained on."""
    data: Any = None
    """A graph in memory, as for `as_unlabelled`; None to load it."""
    layer: int | None = None
    """Convolutions behind which hidden rows are wanted, as for `hidden_layer`; None for predictions."""
    nodes: Nodes | Sequence[int] | np.ndarray = "all"
    """The nodes that are wanted: a split, or their numbers."""
    out: Path | None = None
    """File for the answers; None for none."""


def prepare(
    request: Request, scratch: Path, held_until: ExitStack, reporter: Reporter
) -> tuple[Question, Answers]:
    """Check the run and the graph, and cut the graph for the ranks.

    Args:
        request: what is asked.
        scratch: folder for files of the ranks; the caller removes it.
        held_until: closes when the ranks are done.
        reporter: shows what is being done.

    Returns:
        the question, and its answers but for their rows.

    Raises:
        UserError: the run has no weights, or the graph does not fit it.
    """
    run = TrainedRun.read(request.folder, request.config, scratch)
    if run.unfinished:
        reporter.remark(run.unfinished, warning=True)
    layer = _layer(request, run)
    graph = held_until.enter_context(_graph(request, run, reporter))
    if run.stored.model_checksum not in ("", run.model(request.config).checksum):
        reporter.warn(
            f"the code of the model has changed since '{run.folder.path}' was trained; its weights are "
            "used in the layers that it makes now"
        )
    if not request.own:
        _warn_of_weights(run, graph.graph, reporter)
    question = _question(request, run, graph, layer, scratch, reporter)
    prepared = PreparedGraph.load(question.graph)
    if request.own:
        _check_is_own(run, prepared, checksum_of_features(request.config))
    return question, _blank(request, run, _wanted(request.nodes, graph.graph), graph.graph.ids)


def hidden_layer(spec: ModelSpec, layer: int) -> tuple[int, int]:
    """The layer whose output are the hidden rows behind a number of convolutions.

        gcn, sage        features -> 1 -> 2 -> ... -> L - 1 -> (convolution L makes logits)
        gcnii, resgcn    features -> input layer: 0 -> 1 -> ... -> L -> (output layer makes logits)
        one's own        of several layers behind the same number of convolutions, the last one counts

    Args:
        spec: the model.
        layer: number of convolutions, or below 0, counted from the last hidden rows, -1.

    Returns:
        The number of convolutions from 0 on, and the number of the layer in the stack.

    Raises:
        ConfigError: the model has no such hidden rows.
    """
    # convolutions so far, for each layer but the last: [0, 1, 2] where a dense layer comes first
    done = list(accumulate(int(item.aggregates) for item in build_stack(spec)[:-1]))
    if not done:
        raise ConfigError(
            f"embed: {spec.model} with one layer has no hidden rows: features become logits at once; use "
            "predictions"
        )
    first, last = done[0], done[-1]
    num_hidden = last - first + 1
    if not (first <= layer <= last or -num_hidden <= layer < 0):
        raise ConfigError(
            f"embed: {layer} is out of range; {spec.model} with {spec.layers} layers has hidden rows after "
            f"{first} to {last} convolutions (or -{num_hidden} to -1, counted from the last)"
        )
    number = layer if layer >= 0 else last + 1 + layer
    return number, max(place for place, count in enumerate(done) if count == number)


def _warn_of_weights(run: TrainedRun, graph: Graph, reporter: Reporter) -> None:
    """Warn if only one of another graph and the run's own has weights of edges."""
    trained = run.stored.graph.weighted  # None: an older version did not keep it
    if trained and not graph.weighted:
        reporter.warn(
            f"edge weights: '{graph.name}' has none, and '{run.folder.path}' was trained with weights; each "
            "edge weighs 1 now"
        )
    if trained is False and graph.weighted:
        reporter.warn(
            f"edge weights: '{graph.name}' has weights, and '{run.folder.path}' was trained without; they "
            "are used now"
        )


def _layer(request: Request, run: TrainedRun) -> int:
    """Number of the layer in the stack whose output is wanted."""
    spec = run.model(request.config)
    return len(build_stack(spec)) - 1 if request.layer is None else hidden_layer(spec, request.layer)[1]


def _graph(request: Request, run: TrainedRun, reporter: Reporter) -> AbstractContextManager[LazyGraph]:
    """The graph that is asked about."""
    config = request.config
    if request.own:
        return graph_of(config, reporter)
    if (config.features or "").startswith("laplacian"):
        reporter.warn(
            "features: eigenvectors of another graph's Laplacian point in directions of their own, which the "
            "model has not learnt; do not trust these numbers unless you know better"
        )
    run.check_scaling(config)
    if request.data is not None:
        return nullcontext(LazyGraph(lambda: _given(request, run, reporter)))
    return nullcontext(LazyGraph(lambda: load_unlabelled(config, run.scaling, reporter.step)))


def _given(request: Request, run: TrainedRun, reporter: Reporter) -> Graph:
    """The graph in memory; with its splits, if one is wanted and the run was trained on this graph."""
    graph = as_unlabelled(request.data, request.config, run.scaling, reporter.step)
    if graph.num_classes or not isinstance(request.nodes, str) or request.nodes == "all":
        return graph
    with suppress(UserError):  # a graph that could not be trained on has no splits
        own = as_graph(request.data, request.config, reporter.step)
        if task_fingerprint(own) == run.stored.graph.content:
            return replace(graph, **{name: getattr(own, name) for name in ANSWERS})
    return graph


def _question(
    request: Request, run: TrainedRun, graph: LazyGraph, layer: int, scratch: Path, reporter: Reporter
) -> Question:
    """Prepare the graph for a plan."""
    config, data = request.config, graph.graph
    spec = run.spec(config, data)
    for note in [] if request.own else data.notes:
        reporter.say(note)
    plan = _plan(config, run.stored.plan, spec.layers, data.num_nodes, own=request.own)
    recipe = recipe_of(plan, spec, config.part_balance)
    if config.cache is None:  # what the cut of graph parallelism would be does not matter here
        recipe = replace(recipe, num_rivals=1)
    rows = scratch / "rows"
    make_folder(rows)
    path = prepared_file(graph, recipe, scratch, reporter.step)
    config = replace(config, stages=plan.num_stages, parts=plan.num_parts)
    return Question(config, plan, spec, path, run.weights, rows, layer)


def _plan(config: LayoutConfig, stored: Plan, num_layers: int, num_nodes: int, *, own: bool) -> Plan:
    """The run's plan, or one for other processes or another graph.

    Raises:
        PlanError: more stages than layers, or more parts than nodes.
    """
    same = (config.stages, config.parts) == (stored.num_stages, stored.num_parts)
    if own and same:  # the same cut gives the same sums, bit for bit
        return stored
    chunks = max(1, min(stored.num_chunks, num_nodes // config.parts))
    plan = make_plan(config.stages, config.parts, chunks, num_layers, num_nodes)
    ranges = stored.layer_ranges if config.stages == stored.num_stages else plan.layer_ranges
    return replace(plan, layer_ranges=ranges, initial=config.initial)


def _check_is_own(run: TrainedRun, prepared: PreparedGraph, checksum: str) -> None:
    """Raise DataError if the run's graph, with that checksum of its features, is no longer the one that it
    was trained on."""
    stored, then, now = run.stored, run.stored.graph, prepared.facts
    changed = then.content and now.content != then.content
    changed = changed or (stored.features_checksum and checksum != stored.features_checksum)
    if changed or not _alike(run.scaling, now.scaling):
        raise DataError(
            f"graph: '{now.name}' has changed since '{run.folder.path}' was trained on it (other edges, "
            "labels, splits or features); to predict it all the same, name it as another graph, with --graph "
            "or --dataset"
        )


def _alike(then: FeatureScaling, now: FeatureScaling) -> bool:
    """Whether two scalings are the same but for rounding; an older version has kept none."""

    def pairs(columns: Columns) -> list[float]:
        return [*columns.mean, *columns.deviation]

    old = [*pairs(then.degrees), *pairs(then.columns), *([] if then.least is None else [then.least])]
    new = [*pairs(now.degrees), *pairs(now.columns), *([] if now.least is None else [now.least])]
    return not old or (len(old) == len(new) and np.allclose(old, new, rtol=1e-5, atol=1e-8))


def _wanted(nodes: Nodes | Sequence[int] | np.ndarray, graph: Graph) -> np.ndarray:
    """Numbers of the wanted nodes, int64.

    Raises:
        ConfigError: a number that no node has, or a split that the graph lacks.
    """
    num_nodes = graph.num_nodes
    if isinstance(nodes, str):
        if nodes == "all":
            return np.arange(num_nodes)
        mask = graph.nodes_of(nodes)
        if not mask.any():
            raise ConfigError(
                f"nodes: '{shown(nodes)}' has no nodes in '{graph.name}'; of graphs other than the run's "
                "own, splits are not read; leave it out, or give numbers of nodes or a mask"
            )
        return np.flatnonzero(mask.numpy())
    given = np.asarray(nodes)
    if given.dtype == np.bool_ and given.shape == (num_nodes,):  # a mask, such as data.test_mask
        return np.flatnonzero(given)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ConfigError(
            f"nodes: {given.dtype} {list(given.shape)} can't be used; expected numbers of nodes in a list, a "
            f"mask of {num_nodes:,} nodes, or train, val, test or all"
        )
    if given.size and not 0 <= int(given.min()) <= int(given.max()) < num_nodes:
        bad = int(given.min()) if int(given.min()) < 0 else int(given.max())
        raise ConfigError(f"nodes: {bad} is none of {num_nodes:,} nodes (0 to {num_nodes - 1})")
    return given.astype(np.int64)


def _blank(request: Request, run: TrainedRun, nodes: np.ndarray, ids: NodeIds | None) -> Answers:
    """Answers without rows."""
    nothing = np.zeros((0, 0), np.float32)
    if request.layer is not None:
        number, _ = hidden_layer(run.model(request.config), request.layer)
        return Embeddings(nodes=nodes, ids=ids, rows=nothing, layer=number)
    graph = run.stored.graph
    return Predictions(
        nodes=nodes,
        ids=ids,
        logits=nothing,
        task=run.task,
        class_names=graph.class_names or (),
        value_mean=graph.value_mean or (),
        value_deviation=graph.value_deviation or (),
    )
