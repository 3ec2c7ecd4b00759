"""Measuring what this machine's devices and links can do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.distributed as dist

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.config.run import Model
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.prepared import GraphFacts, PreparedGraph
from gnnpipe.nn.models import ModelSpec
from gnnpipe.planner.hardware import Link
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


def measure_link(rank: int, device: torch.device, links: Links) -> Link | None:
    """Latency and bandwidth between ranks 0 and 1; None where there is but one, and on all others."""
    if dist.get_world_size() < 2 or rank > 1:
        return None
    clock = Clock(device)
    latency, long = (
        _seconds(clock, partial(_ping_pong, rank, torch.zeros(size, device=device), links)) / 2
        for size in (SMALL_MESSAGE, LARGE_MESSAGE)
    )
    return Link(latency, 4 * LARGE_MESSAGE / max(long - latency, 1e-9))


def measure_message(rank: int, device: torch.device, links: Links) -> float:
    """Seconds of a core for each byte of a message, on either end, where cores carry messages; 0 elsewhere.

    Ranks 0 and 1 exchange rows as two parts do: each picks its own, sends them and receives the other's, both
    at once, which takes cores longer than one message after the other.
    """
    if device.type != "cpu" or dist.get_world_size() < 2 or rank > 1:
        return 0.0
    table = torch.randn(2 * EXCHANGED_ROWS, EXCHANGED_WIDTH)
    chosen = torch.randperm(len(table))[:EXCHANGED_ROWS].sort().values
    arriving = torch.empty(EXCHANGED_ROWS, EXCHANGED_WIDTH)

    def exchange() -> None:
        _exchange(table.index_select(0, chosen), arriving, 1 - rank, links)

    return _seconds(Clock(device), exchange) / (2 * arriving.nbytes)


def measure_message_start(rank: int, links: Links, num_ranks: int) -> float:
    """Seconds of a core for each message, on either end, however short it is, where cores carry messages.

    Gloo's thread that a message wakes may push the thread aside that holds its lock, having posted the
    receive just now, and then asks for that lock for the rest of a time slice, most of all while ranks
    outnumber cores. So pairs of ranks compute and exchange short messages in turns, all at once, and what
    their processes take longer than without counts.

    Args:
        rank: this one; all of the world call together.
        links: between them.
        num_ranks: how many of them take part, an even number; what the others get means nothing.
    """
    square = torch.randn(SHORT_PRODUCT, SHORT_PRODUCT)
    leaving = torch.randn(EXCHANGED_WIDTH)
    arriving = torch.empty_like(leaving)
    taken = []
    for exchanging in (True, False):
        dist.barrier(links.shared)
        began = time.process_time()
        for _ in range(SHORT_MESSAGES if rank < num_ranks else 0):
            torch.mm(square, square)
            if exchanging:
                _exchange(leaving, arriving, rank ^ 1, links)
        taken.append(time.process_time() - began)
    return max(0.0, (taken[0] - taken[1]) / (2 * SHORT_MESSAGES))


def _exchange(leaving: torch.Tensor, arriving: torch.Tensor, other: int, links: Links) -> None:
    """Send to another rank and receive as much of it."""
    operations = [
        dist.P2POp(operation, rows, other, links.down)
        for operation, rows in ((dist.irecv, arriving), (dist.isend, leaving))
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()


def _ping_pong(rank: int, message: torch.Tensor, links: Links) -> None:
    """There and back."""
    if rank == 0:
        dist.send(message, 1, group=links.down)
        dist.recv(message, 1, group=links.up)
    elif rank == 1:
        dist.recv(message, 0, group=links.down)
        dist.send(message, 0, group=links.up)


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
