"""Bytes that an epoch sends, by formula; the bytes that ranks count are the same to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gnnpipe.config.run import TableFormat, WireFormat

BYTES_PER_NUMBER = 4

# Smallest bucket of weight gradients. Below it latency costs more than bytes do; much above it a model of
# usual width has a single bucket, complete only at the end, where no computation is left to hide it.
BUCKET_BYTES = 2**17


@dataclass(frozen=True)
class LayerRows:
    """Sizes of a layer's rows that travel between parts."""

    width: int
    """Columns of the aggregated rows; 0 for a layer that aggregates nothing."""
    returns_gradient: bool
    """Whether gradients travel too; they don't if features themselves are aggregated."""
    num_weights: int
    """Number of the layer's weights, entry by entry."""
    gradient_width: int | None = None
    """Columns of the rows of gradients; None for as many as ``width``."""
    pushes: bool = False
    """Whether gradients go back over the routes of the rows, as fp32, and not over those of A^T."""
    fp32: bool = False
    """Whether its rows are fp32 whatever the format of tables."""
    times_forward: int = 1
    """Number of times that its rows travel forward: twice where they are made again on the way back."""


@dataclass(frozen=True)
class HaloRows:
    """Number of rows that parts read of each other, summed over the parts."""

    forward: int
    """Halo rows of A; over the number of nodes this is alpha of the published formula."""
    backward: int
    """Halo rows of A^T; as many on undirected graphs."""


@dataclass(frozen=True)
class Volume:
    """Bytes of one epoch over all ranks, by kind."""

    communication_layer: int
    """Rows and gradients over the stage boundaries."""
    communication_graph: int
    """Boundary rows and their gradients inside the stages."""
    weights: int
    """Gradients of weights, between ranks that hold the same weights."""

    @property
    def total(self) -> int:
        """Bytes of all kinds."""
        return self.communication_layer + self.communication_graph + self.weights


def row_bytes(width: int, wire: WireFormat) -> int:
    """Bytes of a row in a number format; int8 adds a scale of four bytes to each row."""
    return {"fp32": BYTES_PER_NUMBER * width, "bf16": 2 * width, "int8": width + BYTES_PER_NUMBER}[wire]


def pipeline_bytes(widths: Sequence[int], num_nodes: int, streams: int = 1, wire: WireFormat = "fp32") -> int:
    """Bytes over all stage boundaries in one epoch, forward and backward.

    Args:
        widths: H, the width of a row, of each of the S - 1 boundaries.
        num_nodes: N.
        streams: rows of a node that cross a boundary: 2 if the initial rows h0 travel along, else 1.
        wire: number format of the rows.
    """
    return 2 * num_nodes * streams * sum(row_bytes(width, wire) for width in widths)


def halo_bytes(
    layers: Sequence[LayerRows], halo: HaloRows, versions: int = 1, tables: TableFormat = "fp32"
) -> int:
    """Bytes of boundary rows that parts exchange in one epoch, forward and backward.

    With alpha = halo.forward / N and an undirected graph this is the published ``2 L alpha N H b``.

    Args:
        layers: layers of the whole model.
        halo: number of rows that parts read of each other.
        versions: number of forms in which a row travels forward (2 where history keeps clean rows).
        tables: number format of the rows.
    """
    return sum(
        forward_halo_bytes(layer, halo, versions, tables) + backward_halo_bytes(layer, halo, tables)
        for layer in layers
    )


def forward_halo_bytes(layer: LayerRows, halo: HaloRows, versions: int, tables: TableFormat) -> int:
    """Bytes of a layer's rows forward; see `halo_bytes`."""
    row = row_bytes(layer.width, "fp32" if layer.fp32 else tables)
    return row * versions * halo.forward * layer.times_forward


def backward_halo_bytes(layer: LayerRows, halo: HaloRows, tables: TableFormat) -> int:
    """Bytes of its gradients; see `halo_bytes`."""
    if not layer.returns_gradient:
        return 0
    if layer.pushes:
        return row_bytes(layer.width, "fp32") * halo.forward
    width = layer.width if layer.gradient_width is None else layer.gradient_width
    return row_bytes(width, "fp32" if layer.fp32 else tables) * halo.backward


def weight_bytes(
    num_weights: Sequence[int], layer_stages: Sequence[int], num_parts: int, num_shared: int = 0
) -> int:
    """Bytes of the all-reduces of weight gradients in one epoch, over all ranks of all stages.

    A ring of P ranks sends each number ``2 (P - 1) / P`` times from each rank.

    Args:
        num_weights: number of weights of each layer, 0 where they are shared.
        layer_stages: stage of each layer.
        num_parts: P.
        num_shared: number of weights that all ranks of all stages share.
    """
    num_stages = max(layer_stages) + 1
    num_ranks = num_stages * num_parts
    total = 2 * (num_ranks - 1) * bucket_bytes(num_shared, num_ranks)
    for stage in range(num_stages):
        mine = [count for count, place in zip(num_weights, layer_stages, strict=True) if place == stage]
        for bucket in buckets(mine):
            size = bucket_bytes(sum(mine[layer] for layer in bucket), num_parts)
            total += 2 * (num_parts - 1) * size
    return total


def buckets(num_weights: Sequence[int]) -> list[list[int]]:
    """Group a stage's layers into all-reduces, from the last layer to the first.

    Each bucket but the last takes `BUCKET_BYTES` or more. Backward completes gradients in that order, so a
    bucket leaves while the layers in front still compute.

        # layers of 60 kB, buckets of 128 kB    [6 5 4] [3 2 1] [0]

    Args:
        num_weights: number of weights of each layer, in forward order.

    Returns:
        layers of each bucket, in the order in which buckets become complete.
    """
    result: list[list[int]] = []
    current: list[int] = []
    for layer in reversed(range(len(num_weights))):
        current.append(layer)
        if sum(num_weights[index] for index in current) * BYTES_PER_NUMBER >= BUCKET_BYTES:
            result.append(current)
            current = []
    if current:
        result.append(current)
    return result


def bucket_bytes(numbers: int, num_parts: int) -> int:
    """Bytes of a bucket of ``numbers`` entries, padded so that every rank of the ring sends the same."""
    return -(-numbers // num_parts) * num_parts * BYTES_PER_NUMBER
