"""Ways to sum rows with weights of their own for each head, tile by tile, as the engine does."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.attention.models import HEADS, WIDTH
from benchmarks.attention.pyg import graph
from gnnpipe.comm.world import keep_freed_memory
from gnnpipe.graph.csr import Csr
from gnnpipe.ops.heads import HeadEdges
from gnnpipe.ops.torch import TorchOps

ROWS = 4096
BLOCKS = HEADS + 1


def measured(threads: int, num_nodes: int = 100_000, times: int = 7) -> dict[str, float]:
    """Milliseconds of a pull of all rows, medians in turns."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", message=".*[Ss]parse.*")
    matrix = graph(num_nodes, 8).matrix
    tiles = [matrix.rows(start, min(start + ROWS, num_nodes)) for start in range(0, num_nodes, ROWS)]
    ways = _ways(tiles, num_nodes)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            found[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values[1:]) for name, values in found.items()}


def _ways(tiles: list[Csr], num_nodes: int) -> dict[str, Callable[[], Any]]:
    table = torch.randn(num_nodes, BLOCKS * WIDTH)
    plain = torch.randn(num_nodes, HEADS * WIDTH)
    by_head = torch.randn(HEADS, num_nodes, WIDTH)
    odd = torch.randn(num_nodes * HEADS, WIDTH + 1)
    heads = [HeadEdges.of(tile, HEADS) for tile in tiles]
    weights = [torch.rand(tile.num_entries) for tile in tiles]
    by_entry = [torch.rand(tile.num_entries * HEADS) for tile in tiles]
    ops = TorchOps()
    blocks = [edges.blocks(BLOCKS, HEADS) for edges in heads]
    odds = [edges.blocks(HEADS, HEADS) for edges in heads]

    def bags(matrices: list[Csr], values: list[Tensor], rows: Tensor) -> None:
        for matrix, value in zip(matrices, values, strict=True):
            ops.pull(matrix.with_value(value), rows)

    def head_major() -> None:
        by_head.copy_(table[:, : HEADS * WIDTH].unflatten(1, (HEADS, WIDTH)).transpose(0, 1))
        for rows in by_head:
            bags(tiles, weights, rows)

    def sparse() -> None:
        for matrix, value in zip(blocks, by_entry, strict=True):
            size = (matrix.num_rows, matrix.num_cols)
            torch.sparse_csr_tensor(matrix.rowptr, matrix.col, value, size) @ table.view(-1, WIDTH)

    return {
        "one weight for all heads": lambda: bags(tiles, weights, plain),
        "bags of (row, head), blocks of 32 (ours)": lambda: bags(blocks, by_entry, table.view(-1, WIDTH)),
        "bags of (row, head), blocks of 33": lambda: bags(odds, by_entry, odd),
        "a copy for each head, one copy for all tiles": head_major,
        "sparse CSR product": sparse,
    }
