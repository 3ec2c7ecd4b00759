"""The least time that an epoch can take on a card: bytes and products that it can't do without.

Three kinds of work, at rates that are measured on the card in the same run, and added up, as one needs what
the other leaves:

    aggregation     every entry reads a row of the table, from the L2 cache (its rate, however irregular)
    products        rows times weights, forward, backward and for the weights' gradient, each at the speed of
                    cuBLAS for these very sizes
    other passes    rows that must be read or written once between those, from memory (its copy rate)
"""

from __future__ import annotations

import torch

from benchmarks.gpu.timing import milliseconds
from gnnpipe.graph.csr import Csr

# An entry's column and value.
ENTRY_BYTES = 8


def rates(hidden: int, nodes: int, device: torch.device) -> dict[str, float]:
    """Rates of the card: copy and L2 reads in bytes a second; seconds of a layer's three products."""
    from benchmarks.gpu.l2 import l2_rate  # needs Triton

    long = torch.empty(2**27, device=device)
    into = torch.empty_like(long)
    copy = 2 * long.nbytes / (1e-3 * milliseconds(lambda: into.copy_(long), device))
    h, w = torch.randn(nodes, hidden, device=device), torch.randn(hidden, hidden, device=device)
    out = torch.empty_like(h)
    found = {"copy": copy, "l2": l2_rate(device)}
    for name, precision in (("fp32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        forward = milliseconds(lambda: torch.mm(h, w, out=out), device)
        backward = milliseconds(lambda: torch.mm(h, w.t(), out=out), device)
        found[f"products {name}"] = 1e-3 * (forward + backward + milliseconds(lambda: h.t() @ out, device))
    torch.set_float32_matmul_precision("highest")
    return found


def limit(
    matrix: Csr, layers: int, hidden: int, table_bytes: int, products: str, at: dict[str, float]
) -> float:
    """Seconds of a GCNII epoch in one chunk at least, without its dense ends.

    Args:
        matrix: the adjacency.
        layers: number of convolutions.
        hidden: width of the rows.
        table_bytes: bytes of a number of the tables.
        products: fp32 or tf32.
        at: rates as `rates` returns them.
    """
    rows = 4 * hidden * matrix.num_rows  # bytes of float32 rows
    table = table_bytes * hidden * matrix.num_rows
    # forward and backward: each entry's row, column and value
    gathered = 2 * matrix.num_entries * (table_bytes * hidden + ENTRY_BYTES)
    # forward: rows are dropped into the table, the aggregate is written, initial rows are mixed in
    # backward: the gradient's table and the initial rows' gradient are written (and that is read), the pulled
    # gradient is masked by the dropped rows
    forward = rows + table + rows + rows
    backward = table + 2 * rows + rows + table + rows
    each = gathered / at["l2"] + at[f"products {products}"] + (forward + backward) / at["copy"]
    return layers * each
