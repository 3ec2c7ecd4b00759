"""What an epoch of a plan consists of, from the sizes of the graph and the model alone."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

from gnnpipe.engine.initial_rows import initial_rows_of
from gnnpipe.nn.models import ModelSpec
from gnnpipe.planner.costs import GraphSize, LayerSeconds, LayerShape, layer_seconds
from gnnpipe.planner.hardware import Rates
from gnnpipe.planner.predictions import layer_shapes
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.volume import BYTES_PER_NUMBER, HaloRows, bucket_bytes, buckets, row_bytes

# Of what a layer does entry by entry, how much comes before boundary rows leave: dropout forward, the
# activation backward.
SHARE_BEFORE_HALO = 0.4

# A few rows a chunk are never worth their start.
LEAST_ROWS_PER_CHUNK = 8
MOST_CHUNKS = 1024


EngineKind = Literal["ours", "original"]
"""Whose engine: the original waits for its messages, and all its ranks meet behind every step."""


@dataclass(frozen=True)
class LayerWork:
    """What a layer does with one chunk of one part: seconds, and bytes that a part sends to the others."""

    put: float
    """Forward, before boundary rows leave."""
    take: float
    """Forward, while they travel."""
    finish: float
    """Forward, when the other parts' have arrived."""
    back_put: float
    """Backward, likewise."""
    back_take: float
    back_finish: float
    products: float
    """Gradients of weights, when gradients of rows have left."""
    halo: float = 0.0
    halo_back: float = 0.0

    @property
    def forward(self) -> float:
        """Seconds of all forward pieces."""
        return self.put + self.take + self.finish

    @property
    def total(self) -> float:
        """Seconds of everything."""
        return self.forward + self.backward + self.products

    @property
    def backward(self) -> float:
        """Seconds of all backward pieces but the gradients of weights."""
        return self.back_put + self.back_take + self.back_finish


@dataclass(frozen=True)
class Work:
    """What an epoch consists of."""

    layers: tuple[tuple[LayerWork, ...], ...]
    """Of each stage."""
    message: float
    """Bytes of a chunk of one part at a stage boundary, either way."""
    weights: float
    """Bytes that a part sends at the end for the sum of weights' gradients, with nothing to hide behind."""
    epoch: float = 0.0
    """Seconds that an epoch takes besides: the step of the optimiser, records."""
    part_scale: tuple[float, ...] = ()
    """Work of each part over the mean one's; empty if they are alike."""
    chunk_scale: tuple[float, ...] = ()
    """Work of each chunk over the mean one's, by position; empty if they are alike."""


@dataclass(frozen=True)
class PartCut:
    """How a graph falls into parts."""

    halo: HaloRows
    cut: float
    """Share of the edges that end in another part."""


WHOLE = PartCut(HaloRows(0, 0), 0.0)


def work_of(
    plan: Plan,
    spec: ModelSpec,
    size: GraphSize,
    cut: PartCut,
    rates: Rates,
    versions: int = 1,
    engine: EngineKind = "ours",
) -> Work:
    """Seconds and bytes of every layer for a chunk of a part, were all chunks and parts alike.

    Args:
        plan: stages, parts, chunks and layer ranges.
        spec: the model.
        size: of the graph.
        cut: into the plan's parts.
        rates: of a device.
        versions: forms in which a row goes to other parts, see `TableSettings.versions_sent`.
        engine: whose; the original's sums weights when all else is done.
    """
    shapes = layer_shapes(spec)
    pieces = plan.num_parts * plan.num_chunks
    starts = plan.num_parts * plan.num_chunks  # each part's chunk is one start

    @functools.cache  # most layers are alike
    def layer(shape: LayerShape) -> LayerWork:
        seconds = layer_seconds(shape, size, rates, starts, whole=plan.num_chunks == 1)
        halo = row_bytes(shape.width, plan.tables) / pieces
        return _layer_work(
            seconds,
            pieces,
            cut.cut,
            halo * versions * cut.halo.forward,
            halo * cut.halo.backward * shape.returns_gradient,
        )

    stages: list[list[LayerWork]] = [[] for _ in range(plan.num_stages)]
    for item, shape in shapes:
        stages[plan.stage_of(item.convolution)].append(layer(shape))
    initial = initial_rows_of(spec, plan)
    if initial.on_every_stage:
        for stage in stages[1:]:
            stage.insert(0, layer(shapes[0][1]))
    message = row_bytes(spec.hidden, plan.wire) * initial.num_streams * size.num_nodes / pieces
    step = rates.epoch + rates.weight * max(_stage_weights(plan, spec))
    return Work(tuple(map(tuple, stages)), message, _exposed_sum(plan, spec, engine), step)


def best_chunks(plan: Plan, spec: ModelSpec, size: GraphSize, rates: Rates) -> int:
    """The number of chunks at which ``T(K) = (K + S - 1)(t0 + w / K)`` is least: ``sqrt((S - 1) w / t0)``.

    t0 is what a chunk's way through the dearest stage costs however small it is, w the rest of that stage's
    work.

    Args:
        plan: stages, parts and layer ranges; its own number of chunks does not count.
        spec: the model.
        size: of the graph.
        rates: of a device.
    """
    seconds = []
    for chunks in (1, 2):
        work = work_of(replace(plan, num_chunks=chunks), spec, size, WHOLE, rates)
        stages = [sum(layer.total for layer in stage) for stage in work.layers]
        seconds.append(chunks * max(stages))
    start = seconds[1] - seconds[0]
    best = math.sqrt((plan.num_stages - 1) * max(seconds[0] - start, 0.0) / max(start, 1e-12))
    most = max(1, size.num_nodes // plan.num_parts // LEAST_ROWS_PER_CHUNK)
    return min(max(round(best), 1), most, MOST_CHUNKS)


def _layer_work(seconds: LayerSeconds, pieces: int, cut: float, halo: float, halo_back: float) -> LayerWork:
    """Split a layer's time by what needs boundary rows."""
    rows, rows_back = seconds.forward - seconds.pull, seconds.backward - seconds.pull_back
    put, back_put = SHARE_BEFORE_HALO * rows, rows_back * (1 - SHARE_BEFORE_HALO)
    finish = seconds.pull * cut + rows - put
    back_finish = seconds.pull_back * cut + rows_back - back_put
    return LayerWork(
        put / pieces,
        seconds.pull * (1 - cut) / pieces,
        finish / pieces,
        back_put / pieces,
        seconds.pull_back * (1 - cut) / pieces,
        back_finish / pieces,
        seconds.products / pieces,
        halo,
        halo_back,
    )


def _exposed_sum(plan: Plan, spec: ModelSpec, engine: EngineKind) -> float:
    """Bytes that a part sends for sums of weights which nothing hides: ours are those of the last bucket."""
    if plan.num_parts == 1:
        return 0.0
    times = 2 * (plan.num_parts - 1) / plan.num_parts
    if engine == "original":
        return times * BYTES_PER_NUMBER * max(_stage_weights(plan, spec))
    each: list[list[int]] = [[] for _ in range(plan.num_stages)]
    for item, shape in layer_shapes(spec):
        each[plan.stage_of(item.convolution)].append(shape.num_weights)
    last = [sum(mine[layer] for layer in buckets(mine)[-1]) for mine in each]
    return times * max(bucket_bytes(numbers, plan.num_parts) for numbers in last)


def _stage_weights(plan: Plan, spec: ModelSpec) -> list[int]:
    """Numbers in the weights of each stage."""
    found = [0] * plan.num_stages
    for item, shape in layer_shapes(spec):
        found[plan.stage_of(item.convolution)] += shape.num_weights
    return found
