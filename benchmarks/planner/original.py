"""What an epoch of the published system consists of: its operations, counted in its public source.

github.com/dreaming-panda/Mithril_MultiGPU (applications/async_multi_gpus and core/src/cuda), an early one.
A layer is a list of operations: calls of cuDNN, cuBLAS or cuSPARSE, copies, and a few kernels, none of them
fused. They are asynchronous, so that each takes as long as its work or as its launch, whichever is longer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from gnnpipe.nn.models import ModelSpec
from gnnpipe.planner.costs import GraphSize, LayerShape
from gnnpipe.planner.predictions import layer_shapes
from gnnpipe.planner.workload import LayerWork, PartCut, Work
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.volume import BYTES_PER_NUMBER

# Seconds to launch a kernel: 5 to 10 us, the upper end, as most calls also make and destroy descriptors.
LAUNCH = 1e-5
# The host waits for the device, then fills an empty queue again.
SYNCHRONIZE = 1e-5
# A small message of NCCL, and a small all-reduce over two nodes: 20 to 50 us.
MESSAGE = 3e-5
COLLECTIVE = 5e-5
# cuDNN's dropout reads and writes a random state whatever the size of the rows: 48 bytes of curandState for
# each of 1,024 threads of each of the 64 multiprocessors. The original copies it before each call.
RANDOM_STATE = 64 * 1024 * 48
# Bytes a second between device and host, half of PCIe 4.0 x16.
TO_HOST = 12e9


@dataclass(frozen=True)
class Gpu:
    """Seconds of a device's work."""

    gather: float
    """A number that an aggregation reads."""
    multiply: float
    """A multiplication and an addition."""
    byte: float
    """A byte of memory, read or written."""
    launch: float = LAUNCH
    """An operation, however small its work."""

    def call(self, size: float, seconds: float = 0.0) -> float:
        """One call that moves so many bytes, or computes for so long."""
        return max(self.launch, size * self.byte, seconds)

    def rows(self, num_numbers: float, *passes: int) -> float:
        """Calls that read or write rows, each so many times."""
        return sum(self.call(times * BYTES_PER_NUMBER * num_numbers) for times in passes)

    def product(self, num_rows: float, num_weights: int, num_numbers: float) -> float:
        """A product with a matrix of weights, or into one."""
        return self.call(
            BYTES_PER_NUMBER * (num_weights + num_numbers), num_rows * num_weights * self.multiply
        )

    def dropout(self, num_numbers: float) -> float:
        """Copy the random state; drop, which reads and writes it once more."""
        copy = 2 * RANDOM_STATE
        return self.call(copy) + self.call(copy + 2 * BYTES_PER_NUMBER * num_numbers)


@dataclass(frozen=True)
class _Layer:
    """A layer of one chunk of one part: seconds of its operations."""

    gpu: Gpu
    model: str
    shape: LayerShape
    num_rows: float
    num_edges: float
    is_last: bool

    @property
    def out(self) -> float:
        """Numbers in the rows that leave."""
        return self.num_rows * self.shape.out_features

    @property
    def aggregated(self) -> float:
        """Numbers in the aggregated rows."""
        return self.num_rows * self.shape.width

    @property
    def pull(self) -> float:
        """Aggregation: two kernels."""
        if not self.shape.width:
            return 0.0
        work = self.num_edges * self.shape.width * self.gpu.gather
        return max(2 * self.gpu.launch, work)

    @property
    def num_products(self) -> int:
        """Matrices of weights."""
        return 2 if self.model == "sage" and self.shape.width else 1

    @property
    def product(self) -> float:
        """One product."""
        weights = self.shape.in_features * self.shape.out_features
        moved = self.num_rows * (self.shape.in_features + self.shape.out_features)
        return self.gpu.product(self.num_rows, weights, moved)

    @property
    def num_sums(self) -> int:
        """Sums of two matrices of rows: GraphSAGE has one, GCNII two."""
        return {"sage": 1, "gcnii": 2}.get(self.model, 0) if self.shape.width else 0

    @property
    def cheap(self) -> float:
        """Forward, all but aggregation and products: sums, then softmax, or ReLU and dropout."""
        seconds = self.num_sums * self.gpu.rows(self.out, 2, 3) + self.gpu.rows(self.out, 2)
        if self.shape.reads_features and self.model != "gcn":
            seconds += self.gpu.dropout(self.num_rows * self.shape.in_features)
        return seconds if self.is_last else seconds + self.gpu.dropout(self.out)

    @property
    def cheap_back(self) -> float:
        """The same backward. Gradients are set to 0 first; that of the aggregation is doubled at the end."""
        gpu = self.gpu
        sums = self.num_sums * gpu.rows(self.out, 3, 3)
        act = gpu.rows(self.out, 3, 1, 1) if self.is_last else gpu.rows(self.out, 4, 2, 3)
        num_gradients = 3 + bool(self.shape.width) + self.num_sums + (self.num_products - 1)
        zeros = num_gradients * gpu.rows(self.out, 1)
        double = gpu.rows(self.aggregated, 2) if self.shape.width else 0.0
        return sums + act + zeros + double

    @property
    def recomputed(self) -> float:
        """What the backward pass computes again: all of GraphSAGE, else what is neither pull nor product."""
        if self.model == "sage":
            return self.cheap + self.pull + self.num_products * self.product
        return self.cheap

    @property
    def weights(self) -> float:
        """Each weight matrix: its gradient is set to 0, added to the epoch's, and waited for."""
        size = self.shape.in_features * self.shape.out_features
        return self.num_products * (self.gpu.rows(size, 1, 3) + SYNCHRONIZE)

    def work(self, halo: float, halo_back: float) -> LayerWork:
        """In the simulator's terms; the original computes nothing while boundary rows travel."""
        product = self.num_products * self.product
        before = product if self.shape.reads_features else 0.0
        back = self.recomputed + self.cheap_back + product * (1 if self.shape.reads_features else 2)
        pull_back = self.pull if self.shape.returns_gradient else 0.0
        return LayerWork(
            before,
            0.0,
            self.pull + product - before + self.cheap,
            back,
            0.0,
            pull_back + self.weights,
            0.0,
            halo,
            halo_back,
        )


def original_ranges(spec: ModelSpec, num_stages: int) -> tuple[tuple[int, int], ...]:
    """Convolutions of each stage: the original takes all layers, dense ends too, to cost the same.

    Each stage takes layers until it has the mean of what is left. GCNII's 34 layers on 8 stages make 5, 5, 4,
    ..., 4, so that the second stage has 5 convolutions.
    """
    ends = 1 if spec.has_initial else 0
    total, bounds = spec.layers + 2 * ends, [0]
    for left in range(num_stages, 0, -1):
        bounds.append(bounds[-1] + math.ceil((total - bounds[-1]) / left))
    return tuple(pairwise(min(max(bound - ends, 0), spec.layers) for bound in bounds))


def original_work(
    plan: Plan, spec: ModelSpec, size: GraphSize, cut: PartCut, gpu: Gpu, weight_bandwidth: float
) -> Work:
    """Seconds and bytes of every operation of the original, were all chunks and parts alike.

    Args:
        plan: stages, parts, chunks and layer ranges.
        spec: the model.
        size: of the graph.
        cut: into the plan's parts.
        gpu: of a rank.
        weight_bandwidth: bytes a second that a rank sends when weights' gradients are summed.
    """
    pieces = plan.num_parts * plan.num_chunks
    shapes = layer_shapes(spec)
    stages: list[list[LayerWork]] = [[] for _ in range(plan.num_stages)]
    for index, (item, shape) in enumerate(shapes):
        num_rows, num_edges = size.num_nodes / pieces, size.num_edges / pieces
        layer = _Layer(gpu, spec.model, shape, num_rows, num_edges, index == len(shapes) - 1)
        row = BYTES_PER_NUMBER * shape.width / pieces
        stages[plan.stage_of(item.convolution)].append(
            layer.work(row * cut.halo.forward, row * cut.halo.backward * shape.returns_gradient)
        )
    if spec.has_initial and plan.num_stages > 1:  # h0 goes by a message of its own
        for stage in stages:
            first = stage[0]
            stage[0] = replace(first, put=first.put + MESSAGE, back_put=first.back_put + MESSAGE)
    message = BYTES_PER_NUMBER * spec.hidden * (2 if spec.has_initial else 1) * size.num_nodes / pieces
    epoch = max(_epoch(plan, stage, spec, size, gpu, weight_bandwidth) for stage in range(plan.num_stages))
    return Work(tuple(map(tuple, stages)), message, 0.0, epoch)


def _epoch(
    plan: Plan, stage: int, spec: ModelSpec, size: GraphSize, gpu: Gpu, weight_bandwidth: float
) -> float:
    """What a stage does before and after the pipeline."""
    mine = [shape for item, shape in layer_shapes(spec) if plan.stage_of(item.convolution) == stage]
    # A snapshot of every table is copied back, and every table of gradients set to 0, for all nodes.
    tables = sum(gpu.rows(size.num_nodes * shape.width, 2, 1) for shape in mine if shape.width)
    weights = sum(_matrix(plan, num, gpu, weight_bandwidth) for num in _matrices(spec, mine))
    loss = plan.num_chunks * (3 * gpu.launch + 2 * SYNCHRONIZE)
    return tables + weights + loss + 2 * COLLECTIVE  # the order of chunks, and the loss


def _matrices(spec: ModelSpec, shapes: list[LayerShape]) -> Iterator[int]:
    for shape in shapes:
        for _ in range(2 if spec.model == "sage" else 1):
            yield shape.in_features * shape.out_features


def _matrix(plan: Plan, num_weights: int, gpu: Gpu, bandwidth: float) -> float:
    """A matrix is copied, its gradients set to 0 twice, summed over parts, and stepped by Adam."""
    seconds = gpu.rows(num_weights, 2, 1, 1, 7) + SYNCHRONIZE
    if plan.num_parts == 1:
        return seconds
    size = BYTES_PER_NUMBER * num_weights
    sent = 2 * size * (plan.num_parts - 1) / plan.num_parts
    if plan.num_stages > 1:  # MPI, through the hosts' memory
        seconds += 2 * (SYNCHRONIZE + size / TO_HOST)
    return seconds + COLLECTIVE + sent / bandwidth
