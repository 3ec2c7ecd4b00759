"""Time layers, links and messages on this machine, and fit the cost model's rates to the times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.optimize import nnls

from gnnpipe.comm.clock import Clock, Mark
from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.comm.world import World
from gnnpipe.config.run import Model
from gnnpipe.engine.engine import ChunkWork
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.replay import replayed
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import GraphFacts, PreparedGraph
from gnnpipe.nn.models import ModelSpec
from gnnpipe.planner.hardware import REFERENCE, KindRates, Link, Rates
from gnnpipe.planner.memory.rank import counted_blocks
from gnnpipe.schedule.plan import Plan, make_plan
from gnnpipe.schedule.volume import BYTES_PER_NUMBER

# Bytes of rows that fit no cache, and the most layers that are timed to reach them.
CACHE = 2**29
LAYERS = 12
# Epochs that are timed, after one to warm up.
ROUNDS = 3
# Numbers in a message, for latency and for bandwidth.
SMALL_MESSAGE, LARGE_MESSAGE = 1, 2**21
# Rows and columns that two ranks exchange, as two parts exchange boundary rows.
EXCHANGED_ROWS, EXCHANGED_WIDTH = 2**14, 64
# Short messages in a row, and the size of the square matrices that are multiplied between them: small, as the
# time of the product scatters too.
SHORT_MESSAGES, SHORT_PRODUCT = 100, 256


@dataclass(frozen=True)
class Sample:
    """Seconds of one layer for one chunk of a graph: medians over epochs of means over layers and chunks."""

    kind: str
    """Kind of layer, a key of `Rates.kinds`."""
    width: int
    num_chunks: int
    rows: float
    """Nodes of a chunk."""
    edges: float
    """Entries of the normalised adjacency in a chunk's rows."""
    weights: float
    """Multiplications for each node: numbers in the layer's weights, or what `block_costs` counts."""
    forward: float
    backward: float
    """Seconds without those of `products`."""
    products: float
    """Seconds of the gradients of weights."""
    linear: bool = True
    """Whether it aggregates by a pull, whose rate all such kinds share."""
    products_back: int = 1
    """Products backward over those forward, without the gradients of weights: 3 where a layer is computed
    again and differentiated in one go."""


def measure_layer(graph: PreparedGraph, kind: Model, width: int, device: torch.device) -> Sample:
    """Time the layers of a stage in the middle of a pipeline, run by the engine's code of every epoch.

    Args:
        graph: prepared for the kind of layer, in one part and any number of chunks.
        kind: a model, one of whose layers is timed.
        width: columns of the rows.
        device: the device that runs it.
    """
    chunks, facts = len(graph.ranges[0]), graph.facts
    layers = layers_beyond_cache(facts.num_nodes, width)
    plan, spec, settings = middle_stage(facts, chunks, kind, width, layers)
    stage = Stage(
        Place.of_rank(1, 3, 1), plan, spec, graph, settings, DropoutSettings(0.5, 0, 1), device, Links()
    )
    clock = Clock(device)
    work = replayed(stage)
    # the first epoch touches its memory for the first time and compiles kernels; CUDA graphs are recorded in
    # the second
    warm = 1 if work is stage else 2
    # stands for the message that each chunk would arrive in: half of a ReLU's output is 0
    longest = max(data.chunk.num_nodes for data in stage.chunks)
    rows = torch.randn(stage.initial.num_streams, longest, width, device=device).relu_()
    epochs = [_timed_epoch(epoch, work, stage, plan, clock, rows) for epoch in range(warm + ROUNDS)]
    forward, backward, products = (
        statistics.median(column) / (layers * chunks) for column in zip(*epochs[warm:], strict=True)
    )
    nodes, entries = facts.num_nodes, graph.matrix.num_entries
    module = stage.layers[0].module
    counts = counted_blocks(spec).get(stage.layers[0].spec.number)
    weights: float = sum(weight.numel() for weight in module.parameters())
    if counts is not None:
        weights = counts.row_products + counts.edge_products * entries / nodes
    return Sample(
        module.cost_kind,
        width,
        chunks,
        nodes / chunks,
        entries / chunks,
        weights,
        forward,
        backward,
        products,
        linear=module.is_linear,
        products_back=1 if counts is None else 3,
    )


def _timed_epoch(
    epoch: int, work: ChunkWork, stage: Stage, plan: Plan, clock: Clock, rows: torch.Tensor
) -> list[float]:
    """Seconds of an epoch forward, backward, and of products."""
    work.begin_epoch(epoch, list(range(plan.num_chunks)))
    work.prepare()
    marks: dict[str, list[Mark]] = {"forward": [], "backward": [], "products": []}
    for action in plan.schedule.stages[stage.place.stage]:
        arrived = rows[:, : stage.chunks[stage.entering(action)].chunk.num_nodes]
        if action.kind == "F":
            began = clock.mark()
            work.forward(action, arrived)
            marks["forward"] += [began, clock.mark()]
            continue
        gradient = arrived.clone()  # the engine writes over it
        began = clock.mark()
        work.backward(action, gradient)
        between = clock.mark()
        work.add_products()
        marks["backward"] += [began, between]
        marks["products"] += [between, clock.mark()]
    return [_lengths(clock.seconds(of_kind)) for of_kind in marks.values()]


def _lengths(moments: Sequence[float]) -> float:
    """Sum over pairs of a begin and an end."""
    return sum(end - begin for begin, end in zip(moments[::2], moments[1::2], strict=True))


def layers_beyond_cache(num_nodes: int, width: int) -> int:
    """Number of layers to time: enough that their rows fit no cache, as those of a real stage may not, but at
    most `LAYERS`."""
    return max(1, min(LAYERS, -(-CACHE // (BYTES_PER_NUMBER * num_nodes * width))))


def middle_stage(
    graph: GraphFacts | Graph, num_chunks: int, kind: Model, width: int, layers: int
) -> tuple[Plan, ModelSpec, TableSettings]:
    """Plan, model and tables of the timed stage, the second of three, with the default staleness settings."""
    spec = ModelSpec(kind, 3 * layers, width, graph.num_features, graph.num_classes, False, 0)
    alone = num_chunks == 1
    settings = TableSettings(alone=True) if alone else TableSettings(gradient="reuse", weight=0.7)
    return make_plan(3, 1, num_chunks, spec.layers, graph.num_nodes), spec, settings


def measure_link(world: World) -> Link | None:
    """Latency and bandwidth between ranks 0 and 1; None on other ranks, and where there is only one."""
    if world.size < 2 or world.rank > 1:
        return None
    clock = Clock(world.device)
    # a round trip is two messages; a long one takes latency + bytes / bandwidth
    latency, long = (
        _seconds(clock, partial(_ping_pong, world, torch.zeros(size, device=world.device))) / 2
        for size in (SMALL_MESSAGE, LARGE_MESSAGE)
    )
    return Link(latency, 4 * LARGE_MESSAGE / max(long - latency, 1e-9))


def measure_message(world: World) -> float:
    """Seconds of a core per byte of a message, at either end, where cores copy messages; 0 on all other ranks
    and devices.

    Ranks 0 and 1 exchange rows as two parts do: each gathers its boundary rows, sends them, and receives the
    other's at the same time, which takes cores longer than one message after the other.
    """
    if world.device.type != "cpu" or world.size < 2 or world.rank > 1:
        return 0.0
    table = torch.randn(2 * EXCHANGED_ROWS, EXCHANGED_WIDTH)
    chosen = torch.randperm(len(table))[:EXCHANGED_ROWS].sort().values
    arriving = torch.empty(EXCHANGED_ROWS, EXCHANGED_WIDTH)

    def exchange() -> None:
        _exchange(table.index_select(0, chosen), arriving, 1 - world.rank, world.links)

    # each end sends and receives the same number of bytes
    return _seconds(Clock(world.device), exchange) / (2 * arriving.nbytes)


def measure_message_start(world: World, num_ranks: int) -> float:
    """Seconds of a core per message, at either end, whatever its size, where cores carry messages.

    A message wakes a thread of gloo. It may preempt the thread that has just posted the receive and still
    holds a lock, and then asks for that lock in vain for the rest of a time slice, most of all while ranks
    outnumber cores. So pairs of ranks (0 and 1, 2 and 3, ...) compute and exchange short messages in turns,
    all pairs at once; the result is the processor time that this takes beyond the same without messages.

    Args:
        world: all its ranks call this together.
        num_ranks: number of ranks that take part, even; the result of the others is meaningless.
    """
    square = torch.randn(SHORT_PRODUCT, SHORT_PRODUCT)
    leaving = torch.randn(EXCHANGED_WIDTH)
    arriving = torch.empty_like(leaving)
    taken = []  # processor seconds, with messages and without
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
    """Send to another rank and receive as much from it."""
    for transfer in links.carrier.exchange([(arriving, other)], [(leaving, other)], links.down):
        transfer.wait()


def _ping_pong(world: World, message: torch.Tensor) -> None:
    """Send a message from rank 0 to rank 1 and back: one round trip."""
    links, carrier = world.links, world.links.carrier
    if world.rank == 0:
        carrier.send(message, 1, links.down).wait()
        carrier.receive(message, 1, links.up).wait()
    else:
        carrier.receive(message, 0, links.down).wait()
        carrier.send(message, 0, links.up).wait()


def _seconds(clock: Clock, work: Callable[[], None], times: int = 20) -> float:
    """Median seconds of some work."""
    seconds = []
    for _ in range(times):
        began = clock.now()
        work()
        seconds.append(clock.now() - began)
    return statistics.median(seconds)


def with_fewer_edges(graph: PreparedGraph, keep: float) -> PreparedGraph:
    """The same chunks with a random share of the edges, to tell the cost of edges from that of rows."""
    generator = torch.Generator().manual_seed(0)
    matrix, _ = graph.matrix.split(torch.rand(graph.matrix.num_entries, generator=generator) < keep)
    if graph.matrix_t is graph.matrix:
        return replace(graph, matrix=matrix, matrix_t=matrix)
    transpose, _ = graph.matrix_t.split(torch.rand(graph.matrix_t.num_entries, generator=generator) < keep)
    return replace(graph, matrix=matrix, matrix_t=transpose)


def fit(samples: Sequence[Sample]) -> tuple[Rates, float]:
    """Fit the rates of all kinds of layers together, by non-negative least squares of relative errors.

    Each sample gives three equations (docs/planning.md), one a row of a matrix; the rates are its columns:

    #            gather   multiply | start  entry   start_back  entry_back   entry_whole  entry_back_whole
    # forward    edges H  rows W   |   1    rows H
    # backward   edges H  rows W   |                    1       rows H
    # products            rows W   |

    There are eight columns for each kind. With one chunk, rows H stands in the fifth and sixth instead. The
    last two, not shown, have edges H forward and backward, in place of the first of all, for kinds that don't
    aggregate by a pull.

    Returns:
        The rates, and the mean relative error of the times that they give.
    """
    kinds = sorted({sample.kind for sample in samples})
    per_kind = 8
    rows, seconds = [], []
    for sample in samples:
        entries = sample.rows * sample.width
        gathered, product = sample.edges * sample.width, sample.rows * sample.weights
        first = 2 + per_kind * kinds.index(sample.kind)
        whole = sample.num_chunks == 1
        for way, taken in enumerate((sample.forward, sample.backward, sample.products)):
            row = np.zeros(2 + per_kind * len(kinds))
            row[1] = product * (sample.products_back if way == 1 else 1)
            if way < 2:
                row[0 if sample.linear else first + 6 + way] = gathered
                row[first + 2 * way] = 1.0
                row[first + (4 + way if whole else 1 + 2 * way)] = entries
            rows.append(row)
            seconds.append(taken)
    # Divided by its time, each equation asks for 1, so that its error is relative; otherwise the longest
    # times alone would decide. Columns are scaled too, as rates differ by orders of magnitude.
    times = np.array(seconds)
    known = times > 0
    matrix = np.array(rows)[known] / times[known, None]
    scale = matrix.max(axis=0).clip(min=1e-300)
    rates = nnls(matrix / scale, np.ones(len(matrix)))[0] / scale
    off = float(np.abs(matrix @ rates - 1).mean())
    by_kind: dict[str, KindRates] = {}
    pulled = {sample.kind for sample in samples if sample.linear}
    for n, kind in enumerate(kinds):
        found = rates[2 + per_kind * n : 2 + per_kind * (n + 1)].tolist()
        by_kind[kind] = KindRates(*found[:6]) if kind in pulled else KindRates(*found)
    # dense layers are not timed; the kind that starts fastest is nearest to them
    by_kind["dense"] = min(by_kind.values(), key=lambda kind: kind.start + kind.start_back)
    gather, multiply = rates[:2].tolist()
    return Rates(gather, multiply, REFERENCE.sparse_entry, REFERENCE.epoch, REFERENCE.weight, by_kind), off


def contention(alone: Sequence[Sample], busy: Sequence[Sample]) -> float:
    """Slowdown when all cores are busy: ratio of medians, and the median of that over numbers of chunks."""
    ratios = []
    for chunks in sorted({sample.num_chunks for sample in alone} & {sample.num_chunks for sample in busy}):
        seconds_alone, seconds_busy = (
            np.median([sample.forward + sample.backward for sample in samples if sample.num_chunks == chunks])
            for samples in (alone, busy)
        )
        ratios.append(seconds_busy / seconds_alone)
    return float(np.median(ratios)) if ratios else 1.0


def crowding(busy: Sequence[Sample], crowded: Sequence[Sample], ranks_per_core: float) -> float:
    """Slowdown of oversubscribed cores beyond contention and beyond the turns that ranks take; at least 1."""
    return max(1.0, contention(busy, crowded) / ranks_per_core)
