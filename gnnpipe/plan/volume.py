"""Bytes that an epoch sends, by formula (DESIGN: fp32, no compression)."""

from __future__ import annotations

BYTES_PER_NUMBER = 4


def pipeline_bytes(num_stages: int, num_nodes: int, hidden: int, streams: int = 1) -> int:
    """Bytes over all stage boundaries in one epoch, forward and backward.

    Args:
        num_stages: S; there are S - 1 boundaries.
        num_nodes: N.
        hidden: H, the width of a row.
        streams: rows a node that cross a boundary: 2 if the initial rows h0 travel along, else 1.
    """
    return 2 * (num_stages - 1) * num_nodes * hidden * BYTES_PER_NUMBER * streams


def graph_parallel_bytes(widths: list[int], alpha: float, num_nodes: int) -> float:
    """Bytes of boundary rows that graph parallelism exchanges in one epoch, forward and backward.

    Args:
        widths: width of the aggregated rows of each layer.
        alpha: mean number of other parts that need a node's row.
        num_nodes: N.
    """
    return 2 * sum(widths) * alpha * num_nodes * BYTES_PER_NUMBER
