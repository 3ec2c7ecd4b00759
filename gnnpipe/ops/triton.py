"""The operations of a layer as Triton kernels, for CUDA.

No kernel adds atomically, so results repeat bit for bit. Sums are float32, whatever the table's format.

A Triton program is a block of threads that works on tiles of numbers; a kernel starts many programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from gnnpipe.graph.csr import Csr
from gnnpipe.ops.hashing import COLUMNS_PER_HASH, GROUP, MULTIPLY_1, MULTIPLY_2, NODE, HashedMask
from gnnpipe.ops.mix import Mix
from gnnpipe.ops.torch import TorchOps

# A row with more entries than this is summed in pieces, by several programs: one would still be at it when
# all others are done.
LONGEST_PIECE = 2048

# Numbers of the table that one program of a pull loads at once, by bytes of a number: best for an H200 on
# five kinds of graph (benchmarks/gpu).
UNDER_WAY = {4: 512, 2: 1024}

# From MANY_ROWS rows on a program takes several, one after the other: starting a program costs time, too.
MANY_ROWS = 2**18
ROWS_PER_PROGRAM = 4

# Numbers that one program of an element-wise kernel takes.
BLOCK = 1024

_M1, _M2 = tl.constexpr(MULTIPLY_1 % 2**64), tl.constexpr(MULTIPLY_2 % 2**64)
_NODE, _GROUP = tl.constexpr(NODE % 2**64), tl.constexpr(GROUP % 2**64)


@dataclass(frozen=True)
class LongRows:
    """The rows of a matrix with very many entries, cut into pieces::

    entries of row[i]    [ piece first[i] | piece first[i] + 1 | ... | piece first[i + 1] - 1 ]
    entries of piece p   begin[p]:end[p]
    """

    row: Tensor
    """int32 ``[num_long]``: row of the matrix."""
    first: Tensor
    """int64 ``[num_long + 1]``: long row i owns pieces ``first[i]:first[i + 1]``."""
    begin: Tensor
    """int64 ``[num_pieces]``: first entry of each piece."""
    end: Tensor
    """int64 ``[num_pieces]``: end of each piece, one behind its last entry."""

    @classmethod
    def of(cls, rowptr: Tensor, longest: int = LONGEST_PIECE) -> LongRows | None:
        """The rows with more than ``longest`` entries; None if there are none. Waits for the device."""
        bounds = rowptr.cpu().to(torch.int64)
        degree = bounds.diff()
        row = (degree > longest).nonzero().squeeze(1)
        if not row.numel():
            return None
        num_pieces = -(-degree[row] // longest)
        first = torch.zeros(row.numel() + 1, dtype=torch.int64)
        first[1:] = num_pieces.cumsum(0)
        # of each piece: its long row, and its position among the pieces of that row
        owner = torch.repeat_interleave(torch.arange(row.numel()), num_pieces)
        position = torch.arange(owner.numel()) - first[owner]
        begin = bounds[row[owner]] + position * longest
        end = torch.minimum(begin + longest, bounds[row[owner] + 1])
        return cls(*(tensor.to(rowptr.device) for tensor in (row.int(), first, begin, end)))


class TritonOps(TorchOps):
    """Back end of Triton kernels; operations without one are PyTorch's, which take one pass as well."""

    hashes_ahead = False
    entries_at_once = 2**20

    def __init__(
        self,
        longest: int = LONGEST_PIECE,
        under_way: Mapping[int, int] = UNDER_WAY,
        rows_each: int | None = None,
    ) -> None:
        self._longest, self._under_way, self._rows_each = longest, under_way, rows_each

    def pull(
        self, matrix: Csr, table: Tensor, add_to: Tensor | None = None, mix: Mix | None = None
    ) -> Tensor:
        """Pull with one program for a few rows; long rows in pieces, which are then added in order."""
        num_rows, width = matrix.num_rows, table.shape[1]
        out = torch.empty(num_rows, width, device=table.device) if add_to is None else add_to
        if num_rows == 0:
            return out
        if table.stride(1) != 1:
            table = table.contiguous()
        long_rows = self._long_rows(matrix)
        # a tile is [entries, columns], both powers of two
        columns = triton.next_power_of_2(max(width, 16))
        shape = {
            "width": width,
            "stride": table.stride(0),
            "entries": min(16, max(4, self._under_way[table.element_size()] // columns)),
            "columns": columns,
        }
        end = {
            "out_stride": out.stride(0),
            "adds": add_to is not None,
            # a pull without a mix is handed its own output, and never reads it
            "other": out if mix is None else mix.rows,
            "alpha": 0.0 if mix is None else mix.alpha,
            "mixes": mix is not None,
            "other_stride": out.stride(0) if mix is None else mix.rows.stride(0),
        }
        each = self._rows_each or (ROWS_PER_PROGRAM if num_rows >= MANY_ROWS else 1)
        _pull_rows[(triton.cdiv(num_rows, each),)](
            matrix.rowptr,
            matrix.col,
            matrix.value,
            table,
            out,
            num_rows,
            longest=self._longest,
            any_long=long_rows is not None,
            rows_each=each,
            num_warps=1,
            **shape,
            **end,
        )
        if long_rows is not None:
            partial = torch.empty(long_rows.begin.numel(), width, device=table.device)
            _pull_pieces[(long_rows.begin.numel(),)](
                long_rows.begin, long_rows.end, matrix.col, matrix.value, table, partial, num_warps=1, **shape
            )
            _add_pieces[(long_rows.row.numel(),)](
                long_rows.row, long_rows.first, partial, out, width=width, columns=columns, num_warps=1, **end
            )
        return out

    def _long_rows(self, matrix: Csr) -> LongRows | None:
        key = f"rows of more than {self._longest} entries"
        if key not in matrix.structure:
            matrix.structure[key] = LongRows.of(matrix.rowptr, self._longest)
        long_rows: LongRows | None = matrix.structure[key]
        return long_rows

    def drop(self, rows: Tensor, mask: HashedMask, out: Tensor) -> None:
        """Hash, compare and scale in one pass; no mask is stored."""
        num_rows, width = rows.shape
        key = mask.key_on_device
        if key is None:
            key = torch.full((1,), mask.key, dtype=torch.int64, device=rows.device)
        if num_rows == 0:
            return
        groups = triton.next_power_of_2(triton.cdiv(width, COLUMNS_PER_HASH))
        rows_each = max(1, 2 * BLOCK // (COLUMNS_PER_HASH * groups))
        _drop[(triton.cdiv(num_rows, rows_each),)](
            rows,
            mask.node_id,
            key,
            out,
            num_rows,
            mask.threshold,
            mask.scale,
            width=width,
            stride=rows.stride(0),
            out_stride=out.stride(0),
            rows_each=rows_each,
            groups=groups,
            num_warps=4,
        )

    def drop_back(self, gradient: Tensor, dropped: Tensor, scale: float, out: Tensor) -> None:
        """In one pass."""
        num_rows, width = gradient.shape
        if num_rows:
            _drop_back[(triton.cdiv(num_rows * width, BLOCK),)](
                gradient,
                dropped,
                out,
                num_rows * width,
                scale,
                width=width,
                stride=gradient.stride(0),
                dropped_stride=dropped.stride(0),
                out_stride=out.stride(0),
                block=BLOCK,
                num_warps=4,
            )

    def weigh(self, rows: Tensor, previous: Tensor, fresh: float, corrected: float) -> None:
        """In one pass; both arguments are whole rows of tables, and so contiguous."""
        if rows.numel():
            _weigh[(triton.cdiv(rows.numel(), BLOCK),)](
                rows, previous, rows.numel(), fresh, corrected, block=BLOCK, num_warps=4
            )

    def ceilings(self, values: Tensor, rowptr: Tensor) -> Tensor:
        """The largest of each row: asking the device whether less will do would wait for it."""
        return torch.segment_reduce(values, "max", offsets=rowptr)


@triton.jit
def _sum_entries(
    begin, end, col, value, table, column, inside,
    stride: tl.constexpr, entries: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Sum of ``value * table[col]`` over entries ``[begin, end)``: float32 ``[columns]``."""
    # a running sum for each position in the tile, added up once at the end
    total = tl.zeros([entries, columns], dtype=tl.float32)
    for tile_begin in range(begin, end, entries):
        entry = tile_begin + tl.arange(0, entries)
        exists = entry < end
        node = tl.load(col + entry, mask=exists, other=0).to(tl.int64)
        weight = tl.load(value + entry, mask=exists, other=0.0)
        rows = tl.load(
            table + node[:, None] * stride + column[None, :],
            mask=exists[:, None] & inside[None, :],
            other=0.0,
        )
        total += weight[:, None] * rows.to(tl.float32)
    return tl.sum(total, axis=0)


@triton.jit
def _store(
    total, out, other, alpha, row, column, inside,
    out_stride: tl.constexpr, other_stride: tl.constexpr, adds: tl.constexpr, mixes: tl.constexpr,
):  # fmt: skip
    """Write a row of ``out``, or add to it, and mix it with the row of ``other``."""
    address = out + row.to(tl.int64) * out_stride + column
    if adds:
        total += tl.load(address, mask=inside, other=0.0)
    if mixes:
        rows = tl.load(other + row.to(tl.int64) * other_stride + column, mask=inside, other=0.0)
        total += alpha * (rows - total)
    tl.store(address, total, mask=inside)


@triton.jit
def _pull_rows(
    rowptr, col, value, table, out, num_rows, other, alpha,
    width: tl.constexpr, stride: tl.constexpr, out_stride: tl.constexpr, other_stride: tl.constexpr,
    adds: tl.constexpr, mixes: tl.constexpr, longest: tl.constexpr, any_long: tl.constexpr,
    rows_each: tl.constexpr, entries: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Sum ``rows_each`` rows one after the other; long rows are left to `_pull_pieces`."""
    column = tl.arange(0, columns)
    inside = column < width
    for index in range(rows_each):
        row = tl.program_id(0) * rows_each + index
        if row < num_rows:
            begin = tl.load(rowptr + row)
            end = tl.load(rowptr + row + 1)
            if not any_long or end - begin <= longest:
                total = _sum_entries(begin, end, col, value, table, column, inside, stride, entries, columns)
                _store(total, out, other, alpha, row, column, inside, out_stride, other_stride, adds, mixes)


@triton.jit
def _pull_pieces(
    begins, ends, col, value, table, partial,
    width: tl.constexpr, stride: tl.constexpr, entries: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Sum one piece of a long row into its row of ``partial`` ``[num_pieces, width]``."""
    column = tl.arange(0, columns)
    inside = column < width
    piece = tl.program_id(0)
    begin = tl.load(begins + piece)
    end = tl.load(ends + piece)
    total = _sum_entries(begin, end, col, value, table, column, inside, stride, entries, columns)
    tl.store(partial + piece.to(tl.int64) * width + column, total, mask=inside)


@triton.jit
def _add_pieces(
    long_rows, first, partial, out, other, alpha,
    width: tl.constexpr, out_stride: tl.constexpr, other_stride: tl.constexpr, adds: tl.constexpr,
    mixes: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Add the pieces of one long row, always in the same order, so that results repeat bit for bit."""
    column = tl.arange(0, columns)
    inside = column < width
    index = tl.program_id(0)
    total = tl.zeros([columns], dtype=tl.float32)
    for piece in range(tl.load(first + index), tl.load(first + index + 1)):
        total += tl.load(partial + piece * width + column, mask=inside, other=0.0)
    row = tl.load(long_rows + index)
    _store(total, out, other, alpha, row, column, inside, out_stride, other_stride, adds, mixes)


@triton.jit
def _drop(
    rows, node_id, key, out, num_rows, threshold, scale,
    width: tl.constexpr, stride: tl.constexpr, out_stride: tl.constexpr,
    rows_each: tl.constexpr, groups: tl.constexpr,
):  # fmt: skip
    """Write ``rows_each`` rows with entries dropped, from hashes as in `gnnpipe.ops.hashing`.

    A tile is ``[rows, groups of columns, 8 columns]``, as one hash serves 8 columns.
    """
    row = tl.program_id(0) * rows_each + tl.arange(0, rows_each)
    exists = row < num_rows
    group = tl.arange(0, groups)
    byte = tl.arange(0, 8)
    node = tl.load(node_id + row, mask=exists, other=0).to(tl.uint64, bitcast=True)
    salt = tl.load(key).to(tl.uint64, bitcast=True)
    # splitmix64's finaliser; unsigned, so that shifts bring in zeros
    z = (node * _NODE + salt)[:, None] + (group.to(tl.uint64) * _GROUP)[None, :]
    z = (z ^ (z >> 30)) * _M1
    z = (z ^ (z >> 27)) * _M2
    z = z ^ (z >> 31)
    random = (z[:, :, None] >> (byte * 8).to(tl.uint64)[None, None, :]) & 255
    column = group[:, None] * 8 + byte[None, :]
    inside = exists[:, None, None] & (column < width)[None, :, :]
    row_index = row.to(tl.int64)[:, None, None]
    entry = tl.load(rows + row_index * stride + column[None, :, :], mask=inside, other=0.0)
    kept = (random.to(tl.int32) >= threshold).to(tl.float32)
    # two products, as on a CPU: zeros keep their sign
    dropped = ((kept * entry) * scale).to(out.dtype.element_ty)
    tl.store(out + row_index * out_stride + column[None, :, :], dropped, mask=inside)


@triton.jit
def _drop_back(
    gradient, dropped, out, count, scale,
    width: tl.constexpr, stride: tl.constexpr, dropped_stride: tl.constexpr, out_stride: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Write ``block`` entries of ``out``: the scaled gradient where ``dropped`` is positive, else 0."""
    index = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = index < count
    row = index // width
    column = index % width
    x = tl.load(dropped + row * dropped_stride + column, mask=inside, other=0.0).to(tl.float32)
    entry = tl.load(gradient + row * stride + column, mask=inside, other=0.0)
    tl.store(out + row * out_stride + column, tl.where(x > 0, entry * scale, 0.0), mask=inside)


@triton.jit
def _weigh(rows, previous, count, fresh, corrected, block: tl.constexpr):
    """Weigh ``block`` entries of both tables."""
    index = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = index < count
    gradient = tl.load(rows + index, mask=inside, other=0.0)
    before = tl.load(previous + index, mask=inside, other=0.0)
    tl.store(previous + index, gradient, mask=inside)
    weighed = fresh * gradient.to(tl.float32) - corrected * before.to(tl.float32)
    tl.store(rows + index, weighed.to(rows.dtype.element_ty), mask=inside)
