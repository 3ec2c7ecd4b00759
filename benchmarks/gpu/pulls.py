"""Time the aggregation A @ T: our kernels, PyTorch's embedding_bag, cuSPARSE, gather and scatter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.graphs import make
from benchmarks.gpu.timing import milliseconds
from gnnpipe import ops
from gnnpipe.graph.csr import Csr
from gnnpipe.ops.torch import TorchOps

SAMPLED = 25


def race(kind: str, width: int, device: torch.device, scale: int = 1) -> dict[str, Any]:
    """Milliseconds of one graph and width, and the error of each result against a product in float64."""
    matrix = make(kind, device, scale)
    degree = matrix.rowptr.diff()
    table = torch.randn(matrix.num_cols, width, device=device)
    rows = torch.cat([torch.randint(matrix.num_rows, (SAMPLED,), device=device), degree.argmax()[None]])
    wanted = _exact(matrix, table, rows)
    found: dict[str, Any] = {
        "nodes": matrix.num_rows,
        "entries": matrix.num_entries,
        "largest_degree": int(degree.max()),
    }
    for name, work in _ways(matrix, table):
        try:
            off = float((work()[rows].double() - wanted).norm() / wanted.norm())
            found[name] = {"ms": round(milliseconds(work, device), 4), "off": off}
        except (RuntimeError, torch.OutOfMemoryError) as error:
            found[name] = {"failed": str(error)[:200]}
    return found


def _ways(matrix: Csr, table: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    ours, plain, half = ops.of(table.device), TorchOps(), table.bfloat16()
    yield "ours fp32", lambda: ours.pull(matrix, table)
    yield "ours bf16", lambda: ours.pull(matrix, half)
    if table.is_cuda:
        yield from _shapes(matrix, table, half)
    yield "embedding_bag fp32", lambda: plain.pull(matrix, table)
    yield "embedding_bag bf16", lambda: plain.pull(matrix, half)
    size = (matrix.num_rows, matrix.num_cols)
    sparse = torch.sparse_csr_tensor(matrix.rowptr, matrix.col, matrix.value, size, check_invariants=False)
    yield "cuSPARSE fp32", lambda: sparse @ table
    if matrix.num_entries * table.shape[1] * 4 < 16e9:
        row = torch.repeat_interleave(
            torch.arange(matrix.num_rows, device=table.device), matrix.rowptr.diff().long()
        )
        col = matrix.col.long()
        yield (
            "gather and scatter fp32",
            lambda: torch.zeros_like(table).index_add_(
                0, row, table.index_select(0, col) * matrix.value[:, None]
            ),
        )


def _shapes(matrix: Csr, table: Tensor, half: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Other shapes of our Triton programs, to choose the best by."""
    from gnnpipe.ops.triton import TritonOps

    for rows in (1, 4):
        for under_way in (512, 1024):
            shaped = TritonOps(under_way={4: under_way, 2: under_way}, rows_each=rows)
            name = f"{rows} rows a program, {under_way} numbers under way"
            yield f"ours fp32, {name}", partial(shaped.pull, matrix, table)
            yield f"ours bf16, {name}", partial(shaped.pull, matrix, half)


def _exact(matrix: Csr, table: Tensor, rows: Tensor) -> Tensor:
    found = []
    for row in rows.tolist():
        part = slice(int(matrix.rowptr[row]), int(matrix.rowptr[row + 1]))
        weights = matrix.value[part].double()[:, None]
        found.append((table[matrix.col[part].long()].double() * weights).sum(0))
    return torch.stack(found)


def rates(device: torch.device) -> dict[str, float]:
    """Rates of a long copy and of the products of a layer, for the planner."""
    found: dict[str, float] = {}
    long = torch.randn(2**28, device=device)
    into = torch.empty_like(long)
    found["copy TB/s"] = 2 * long.nbytes / milliseconds(lambda: into.copy_(long), device) / 1e9
    h, w = torch.randn(232_965, 100, device=device), torch.randn(100, 100, device=device)
    for name, precision in (("fp32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        found[f"h @ W {name} ms"] = milliseconds(lambda: h @ w, device)
        found[f"h^T @ h {name} ms"] = milliseconds(lambda: h.t() @ h, device)
    torch.set_float32_matmul_precision("highest")
    return found
