"""Seconds and bytes of every action of an epoch, from the sizes of the graph and the model alone."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

from gnnpipe.engine.initial_rows import initial_rows_of
from gnnpipe.nn.models import ModelSpec
from gnnpipe.planner.costs import GraphSize, LayerSeconds, LayerShape, layer_seconds
from gnnpipe.planner.hardware import Rates
from gnnpipe.planner.predictions import boundary_widths, layer_shapes
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.volume import (
    HaloRows,
    backward_halo_bytes,
    bucket_bytes,
    buckets,
    forward_halo_bytes,
    row_bytes,
)

# Share of a layer's elementwise work that comes before boundary rows leave: dropout when forward, the
# activation when backward.
SHARE_BEFORE_HALO = 0.4

# Chunks of fewer rows are never worth their fixed cost.
LEAST_ROWS_PER_CHUNK = 8
MOST_CHUNKS = 1024


EngineKind = Literal["ours", "original"]
"""Engine to simulate: the original one waits for its messages, and all its ranks meet behind every step."""


@dataclass(frozen=True)
class LayerWork:
    """Seconds of a layer for one chunk of one part, and bytes that the part sends to the others.

    # forward   put  | boundary rows travel | finish
    #                | take (own edges)     |
    # backward  back_put  | gradients travel | back_finish | products, when the chunk has left
    #                     | back_take        |
    """

    put: float
    """Seconds forward, before boundary rows leave."""
    take: float
    """Seconds forward that need no boundary rows: done while they travel."""
    finish: float
    """Seconds forward, when the boundary rows of the other parts have arrived."""
    back_put: float
    """As `put`, backward."""
    back_take: float
    back_finish: float
    products: float
    """Seconds of the gradients of weights, when gradients of rows have left."""
    halo: float = 0.0
    """Bytes of boundary rows that the part sends forward."""
    halo_back: float = 0.0
    """Bytes of their gradients that it sends backward."""

    @property
    def forward(self) -> float:
        """Seconds of all forward pieces."""
        return self.put + self.take + self.finish

    @property
    def total(self) -> float:
        """Seconds forward and backward, with the gradients of weights."""
        return self.forward + self.backward + self.products

    @property
    def backward(self) -> float:
        """Seconds of all backward pieces but the gradients of weights."""
        return self.back_put + self.back_take + self.back_finish


@dataclass(frozen=True)
class Work:
    """All work of an epoch."""

    layers: tuple[tuple[LayerWork, ...], ...]
    """Layers of each stage."""
    message: float
    """Bytes of the message for one chunk of one part between stages, in either direction."""
    weights: float
    """Bytes that a part sends in the all-reduce of weights' gradients after its last action, where nothing
    hides them."""
    epoch: float = 0.0
    """Seconds that follow the last action: the optimiser's step, writing records."""
    part_scale: tuple[float, ...] = ()
    """Work of each part over that of the mean part; empty if they are alike."""
    chunk_scale: tuple[float, ...] = ()
    """Work of each chunk over that of the mean chunk, by position; empty if they are alike."""


@dataclass(frozen=True)
class PartCut:
    """How a graph is cut into parts, in numbers."""

    halo: HaloRows
    """Rows that parts read of each other."""
    cut: float
    """Share of the edges whose ends are in different parts."""


WHOLE = PartCut(HaloRows(0, 0), 0.0)


def work_of(
    plan: Plan,
    spec: ModelSpec,
    size: GraphSize,
    cut: PartCut,
    rates: Rates,
    versions: int = 1,
) -> Work:
    """Seconds and bytes of every layer, for chunks and parts that are all alike.

    Args:
        plan: stages, parts, chunks and layer ranges.
        spec: the model.
        size: the graph's.
        cut: the graph's cut into the plan's parts.
        rates: a device's.
        versions: forms in which a row goes to other parts, see `TableSettings.versions_sent`.
    """
    shapes = layer_shapes(spec)
    # a layer's seconds are those of the whole graph: each part's chunk starts once, and takes an equal share
    pieces = plan.num_parts * plan.num_chunks

    @functools.cache  # most layers are alike
    def layer(shape: LayerShape) -> LayerWork:
        seconds = layer_seconds(shape, size, rates, pieces, whole=plan.num_chunks == 1)
        rows = shape.rows(plan.num_chunks)
        forward = forward_halo_bytes(rows, cut.halo, versions, plan.tables)
        work = _layer_work(
            seconds,
            pieces,
            cut.cut,
            forward / rows.times_forward / pieces,
            backward_halo_bytes(rows, cut.halo, plan.tables) / pieces,
        )
        if rows.times_forward == 1:
            return work
        # it goes forward again on the way back, and so do its rows
        back = work.halo_back + work.halo
        return replace(work, back_put=work.back_put + work.forward, halo_back=back)

    stages: list[list[LayerWork]] = [[] for _ in range(plan.num_stages)]
    for item, shape in shapes:
        stages[plan.stage_of(item.convolution)].append(layer(shape))
    initial = initial_rows_of(spec, plan)
    if initial.on_every_stage:
        # each stage computes the initial rows itself, by the first layer, instead of receiving them
        for stage in stages[1:]:
            stage.insert(0, layer(shapes[0][1]))
    widest = max(boundary_widths(plan, spec), default=0)
    message = row_bytes(widest, plan.wire) * initial.num_streams * size.num_nodes / pieces
    step = rates.epoch + rates.weight * max(_stage_weights(plan, spec))
    return Work(tuple(map(tuple, stages)), message, _exposed_sum(plan, spec), step)


def best_chunks(plan: Plan, spec: ModelSpec, size: GraphSize, rates: Rates) -> int:
    """The number of chunks K at which ``T(K) = (K + S - 1)(t0 + w / K)`` is least: ``sqrt((S - 1) w / t0)``.

    S is the number of stages, t0 the fixed cost of a chunk in the most expensive stage, and w the rest of
    that stage's work.

    Args:
        plan: stages, parts and layer ranges; its own number of chunks is ignored.
        spec: the model.
        size: the graph's.
        rates: a device's.
    """
    # all K chunks take K t0 + w in the stage: from K and 2 K follow t0 and w; reversible blocks alone do more
    # work with one chunk
    least = 2 if spec.options.groups > 1 else 1
    seconds = []
    for chunks in (least, 2 * least):
        work = work_of(replace(plan, num_chunks=chunks), spec, size, WHOLE, rates)
        stages = [sum(layer.total for layer in stage) for stage in work.layers]
        seconds.append(chunks * max(stages))
    start = (seconds[1] - seconds[0]) / least
    seconds[0] -= (least - 1) * start
    best = math.sqrt((plan.num_stages - 1) * max(seconds[0] - start, 0.0) / max(start, 1e-12))
    most = max(1, size.num_nodes // plan.num_parts // LEAST_ROWS_PER_CHUNK)
    return min(max(round(best), 1), most, MOST_CHUNKS)


def num_steps(plan: Plan) -> int:
    """Steps of the original engine in an epoch; all its ranks meet before each of them."""
    return 2 * (plan.num_chunks + plan.num_stages - 1)


def step_of(plan: Plan, stage: int, index: int) -> int:
    """The step of the original engine in which a stage runs an action.

    # 3 stages, 4 chunks: the index of the action in its stage's list
    # step     0  1  2  3  4  5  6  7  8  9 10 11
    # stage 0  0  1  2  3  .  .  .  .  4  5  6  7
    # stage 1  .  0  1  2  3  .  .  4  5  6  7  .
    # stage 2  .  .  0  1  2  3  4  5  6  7  .  .

    Args:
        plan: stages and chunks.
        stage: the stage.
        index: of the action; one past the last gives the step after it.
    """
    stages, chunks = plan.num_stages, plan.num_chunks
    return index + stage if index < chunks else index + stages - 1 + (stages - 1 - stage)


def _layer_work(seconds: LayerSeconds, pieces: int, cut: float, halo: float, halo_back: float) -> LayerWork:
    """Split a layer's time at the exchange of boundary rows, and share it out among chunks and parts.

    Aggregation over the ``cut`` share of the edges needs boundary rows, the rest does not. Elementwise work
    and products, ``rows``, come before or after the aggregation.
    """
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


def _exposed_sum(plan: Plan, spec: ModelSpec) -> float:
    """Bytes that a part sends in the all-reduce of weights' gradients and that no computation hides.

    Ours sums bucket by bucket during the backward pass, so only the last bucket is exposed.
    """
    if plan.num_parts == 1:
        return 0.0
    # a ring all-reduce sends each number 2 (P - 1) / P times
    times = 2 * (plan.num_parts - 1) / plan.num_parts
    each: list[list[int]] = [[] for _ in range(plan.num_stages)]
    for item, shape in layer_shapes(spec):
        each[plan.stage_of(item.convolution)].append(shape.num_weights)
    last = [sum(stage[layer] for layer in buckets(stage)[-1]) for stage in each]
    return times * max(bucket_bytes(numbers, plan.num_parts) for numbers in last)


def _stage_weights(plan: Plan, spec: ModelSpec) -> list[int]:
    """Number of weights of each stage."""
    num_weights = [0] * plan.num_stages
    for item, shape in layer_shapes(spec):
        num_weights[plan.stage_of(item.convolution)] += shape.num_weights
    return num_weights
