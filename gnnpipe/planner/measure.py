"""Measuring what this machine's devices and links can do, and fitting the cost model's figures to it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.optimize import nnls

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.comm.world import World
from gnnpipe.config.run import Model
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.prepared import GraphFacts, PreparedGraph
from gnnpipe.nn.models import ModelSpec
from gnnpipe.planner.hardware import REFERENCE, KindRates, Link, Rates
from gnnpipe.schedule.plan import Plan, make_plan
from gnnpipe.schedule.volume import BYTES_PER_NUMBER

# Bytes of rows that do not fit a cache, and the most layers that are to come to so many.
CACHE = 2**29
LAYERS = 12
ROUNDS = 3
SMALL_MESSAGE, LARGE_MESSAGE = 1, 2**21
EXCHANGED_ROWS, EXCHANGED_WIDTH = 2**14, 64
# Between short messages: a product of square matrices, short, as its own time scatters.
SHORT_MESSAGES, SHORT_PRODUCT = 100, 256


@dataclass(frozen=True)
class Sample:
    """Seconds of one layer and one chunk of a graph: medians over epochs, means over chunks."""

    kind: Model
    width: int
    num_chunks: int
    rows: float
    edges: float
    """Entries of the normalised adjacency."""
    weights: int
    """Numbers in the layer's weights."""
    forward: float
    backward: float
    products: float


def measure_layer(graph: PreparedGraph, kind: Model, width: int, device: torch.device) -> Sample:
    """Time a stage in the middle of a pipeline, as an epoch runs it, with the default staleness settings.

    Args:
        graph: prepared for the kind, in one part and any number of chunks.
        kind: of layer.
        width: of the rows.
        device: where.
    """
    chunks, facts = len(graph.ranges[0]), graph.facts
    layers = layers_beyond_cache(facts.num_nodes, width)
    plan, spec, settings = middle_stage(facts, chunks, kind, width, layers)
    stage = Stage(
        Place.of_rank(1, 3, 1), plan, spec, graph, settings, DropoutSettings(0.5, 0, 1), device, Links()
    )
    clock = Clock(device)
    longest = max(data.chunk.num_nodes for data in stage.chunks)
    rows = torch.randn(stage.initial.num_streams, longest, width, device=device).relu_()
    found: list[tuple[float, float, float]] = []
    for epoch in range(ROUNDS + 1):
        stage.begin_epoch(epoch, list(range(chunks)))
        forward = backward = products = 0.0
        for action in plan.schedule.stages[stage.place.stage]:
            arrived = rows[:, : stage.chunks[stage.entering(action)].chunk.num_nodes]
            if action.kind == "F":
                began = clock.now()
                stage.forward(action, arrived)
                forward += clock.now() - began
                continue
            gradient = arrived.clone()
            began = clock.now()
            stage.backward(action, gradient)
            backward += clock.now() - began
            began = clock.now()
            stage.add_products()
            products += clock.now() - began
        found.append((forward, backward, products))
    medians = [statistics.median(column) / (layers * chunks) for column in zip(*found[1:], strict=True)]
    weights = sum(weight.numel() for weight in stage.layers[0].module.parameters())
    return Sample(
        kind, width, chunks, facts.num_nodes / chunks, graph.matrix.num_entries / chunks, weights, *medians
    )


def layers_beyond_cache(num_nodes: int, width: int) -> int:
    """With how many layers a stage is timed: with so many that their rows do not fit a cache, as those of a
    real stage may not, but not with more than `LAYERS`."""
    return max(1, min(LAYERS, -(-CACHE // (BYTES_PER_NUMBER * num_nodes * width))))


def middle_stage(
    graph: GraphFacts | GraphData, num_chunks: int, kind: Model, width: int, layers: int
) -> tuple[Plan, ModelSpec, TableSettings]:
    """Plan, model and tables of the stage that is timed, the second of three."""
    spec = ModelSpec(kind, 3 * layers, width, graph.num_features, graph.num_classes, False, 0)
    alone = num_chunks == 1
    settings = TableSettings(alone=True) if alone else TableSettings(gradient="reuse", weight=0.7)
    return make_plan(3, 1, num_chunks, spec.layers, graph.num_nodes), spec, settings


def measure_link(world: World) -> Link | None:
    """Latency and bandwidth between ranks 0 and 1; None where there is but one, and on all others."""
    if world.size < 2 or world.rank > 1:
        return None
    clock = Clock(world.device)
    latency, long = (
        _seconds(clock, partial(_ping_pong, world, torch.zeros(size, device=world.device))) / 2
        for size in (SMALL_MESSAGE, LARGE_MESSAGE)
    )
    return Link(latency, 4 * LARGE_MESSAGE / max(long - latency, 1e-9))


def measure_message(world: World) -> float:
    """Seconds of a core for each byte of a message, on either end, where cores carry messages; 0 elsewhere.

    Ranks 0 and 1 exchange rows as two parts do: each picks its own, sends them and receives the other's, both
    at once, which takes cores longer than one message after the other.
    """
    if world.device.type != "cpu" or world.size < 2 or world.rank > 1:
        return 0.0
    table = torch.randn(2 * EXCHANGED_ROWS, EXCHANGED_WIDTH)
    chosen = torch.randperm(len(table))[:EXCHANGED_ROWS].sort().values
    arriving = torch.empty(EXCHANGED_ROWS, EXCHANGED_WIDTH)

    def exchange() -> None:
        _exchange(table.index_select(0, chosen), arriving, 1 - world.rank, world.links)

    return _seconds(Clock(world.device), exchange) / (2 * arriving.nbytes)


def measure_message_start(world: World, num_ranks: int) -> float:
    """Seconds of a core for each message, on either end, however short it is, where cores carry messages.

    Gloo's thread that a message wakes may push the thread aside that holds its lock, having posted the
    receive just now, and then asks for that lock for the rest of a time slice, most of all while ranks
    outnumber cores. So pairs of ranks compute and exchange short messages in turns, all at once, and what
    their processes take longer than without counts.

    Args:
        world: all of it call together.
        num_ranks: how many of them take part, an even number; what the others get means nothing.
    """
    square = torch.randn(SHORT_PRODUCT, SHORT_PRODUCT)
    leaving = torch.randn(EXCHANGED_WIDTH)
    arriving = torch.empty_like(leaving)
    taken = []
    for exchanging in (True, False):
        world.links.meet()
        began = time.process_time()
        for _ in range(SHORT_MESSAGES if world.rank < num_ranks else 0):
            torch.mm(square, square)
            if exchanging:
                _exchange(leaving, arriving, world.rank ^ 1, world.links)
        taken.append(time.process_time() - began)
    return max(0.0, (taken[0] - taken[1]) / (2 * SHORT_MESSAGES))


def _exchange(leaving: torch.Tensor, arriving: torch.Tensor, other: int, links: Links) -> None:
    """Send to another rank and receive as much of it."""
    for transfer in links.carrier.exchange([(arriving, other)], [(leaving, other)], links.down):
        transfer.wait()


def _ping_pong(world: World, message: torch.Tensor) -> None:
    """There and back between ranks 0 and 1."""
    links, carrier = world.links, world.links.carrier
    if world.rank == 0:
        carrier.send(message, 1, links.down).wait()
        carrier.receive(message, 1, links.up).wait()
    else:
        carrier.receive(message, 0, links.down).wait()
        carrier.send(message, 0, links.up).wait()


def _seconds(clock: Clock, work: Callable[[], None], times: int = 20) -> float:
    found = []
    for _ in range(times):
        began = clock.now()
        work()
        found.append(clock.now() - began)
    return statistics.median(found)


def with_fewer_edges(graph: PreparedGraph, keep: float) -> PreparedGraph:
    """The same chunks with a share of the edges, to tell the cost of edges from that of rows."""
    generator = torch.Generator().manual_seed(0)
    matrix, _ = graph.matrix.split(torch.rand(graph.matrix.num_entries, generator=generator) < keep)
    if graph.matrix_t is graph.matrix:
        return replace(graph, matrix=matrix, matrix_t=matrix)
    other, _ = graph.matrix_t.split(torch.rand(graph.matrix_t.num_entries, generator=generator) < keep)
    return replace(graph, matrix=matrix, matrix_t=other)


def fit(samples: Sequence[Sample]) -> tuple[Rates, float]:
    """Non-negative least squares of relative errors: rates of all kinds together, and their mean error."""
    kinds = sorted({sample.kind for sample in samples})
    # for all: gather, multiply; of each kind: start and entry each way, and entries of one chunk each way
    per_kind = 6
    rows, seconds = [], []
    for sample in samples:
        entries = sample.rows * sample.width
        gathered, product = sample.edges * sample.width, sample.rows * sample.weights
        place = 2 + per_kind * kinds.index(sample.kind)
        whole = sample.num_chunks == 1
        for way, taken in enumerate((sample.forward, sample.backward, sample.products)):
            row = np.zeros(2 + per_kind * len(kinds))
            row[1] = product
            if way < 2:
                row[0] = gathered
                row[place + 2 * way] = 1.0
                row[place + (4 + way if whole else 1 + 2 * way)] = entries
            rows.append(row)
            seconds.append(taken)
    times = np.array(seconds)
    known = times > 0
    matrix = np.array(rows)[known] / times[known, None]
    scale = matrix.max(axis=0).clip(min=1e-300)
    found = nnls(matrix / scale, np.ones(len(matrix)))[0] / scale
    off = float(np.abs(matrix @ found - 1).mean())
    by_kind: dict[str, KindRates] = {}
    for n, kind in enumerate(kinds):
        by_kind[kind] = KindRates(*found[2 + per_kind * n : 2 + per_kind * (n + 1)].tolist())
    by_kind["dense"] = min(by_kind.values(), key=lambda kind: kind.start + kind.start_back)
    gather, multiply = found[:2].tolist()
    return Rates(gather, multiply, REFERENCE.sparse_entry, REFERENCE.epoch, REFERENCE.weight, by_kind), off


def contention(alone: Sequence[Sample], busy: Sequence[Sample]) -> float:
    """How many times as long the same work takes when all cores are busy: median over numbers of chunks of
    the ratio of medians."""
    ratios = []
    for chunks in sorted({item.num_chunks for item in alone} & {item.num_chunks for item in busy}):
        lone, crowded = (
            np.median([item.forward + item.backward for item in items if item.num_chunks == chunks])
            for items in (alone, busy)
        )
        ratios.append(crowded / lone)
    return float(np.median(ratios)) if ratios else 1.0


def crowding(busy: Sequence[Sample], crowded: Sequence[Sample], ranks_per_core: float) -> float:
    """How many times as long the same work takes, besides, when ranks take turns at all cores: what turns
    alone do not explain, and 1 at least."""
    return max(1.0, contention(busy, crowded) / ranks_per_core)
