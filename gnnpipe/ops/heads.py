"""The entries of a matrix, head by head, as attention weighs them.

With attention every entry has a weight for each head. To PyTorch's operations that is a matrix with more and
shorter rows, one for each (row, head), over a table that is cut into as many blocks a row:

    # two heads; row 0 reads rows 1 and 2 of a table whose rows have two blocks of C columns and a tail of one
    # table        1a 1b 1t | 2a 2b 2t       block of row r and head h: 3 r + h
    # entries      1a 2a | 1b 2b             row (0, a), row (0, b)

Tensors of one number for each of these entries are *by entry* here, those for each (row, head) *by row*.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe import ops
from gnnpipe.graph.csr import Csr


@dataclass(frozen=True)
class HeadEdges:
    """A matrix's entries, head by head; made once for a matrix, by `of`, and shared by all layers."""

    matrix: Csr
    """``[num_rows, num_table_rows]``; its values are not used."""
    num_heads: int
    rowptr: Tensor
    """int ``[num_rows * num_heads + 1]``: where each (row, head) begins."""
    lengths: Tensor
    """int64 ``[num_rows * num_heads]``: number of its entries."""
    _by_blocks: dict[tuple[int, int], Csr] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, matrix: Csr, num_heads: int) -> HeadEdges:
        """The entries of a matrix for a number of heads."""
        key = f"heads {num_heads}"
        if key not in matrix.structure:
            sizes = matrix.rowptr.to(torch.int64).diff()
            lengths = sizes if num_heads == 1 else sizes.repeat_interleave(num_heads)
            rowptr = torch.zeros(lengths.numel() + 1, dtype=torch.int64, device=sizes.device)
            torch.cumsum(lengths, 0, out=rowptr[1:])
            index = matrix.col.dtype if matrix.num_entries * num_heads < 2**31 else torch.int64
            matrix.structure[key] = cls(matrix, num_heads, rowptr.to(index), lengths)
        found: HeadEdges = matrix.structure[key]
        return found

    @property
    def num_entries(self) -> int:
        """Number of entries of all heads."""
        return self.matrix.num_entries * self.num_heads

    def spread(self, by_row: Tensor) -> Tensor:
        """The number of its (row, head) for each entry.

        Args:
            by_row: ``[num_rows, num_heads]`` or flat.
        """
        return torch.repeat_interleave(by_row.reshape(-1), self.lengths, output_size=self.num_entries)

    def _entries(self) -> tuple[Tensor, Tensor]:
        """int64: for each entry, that of the matrix, and the head. Made anew each time, as they are large and
        needed only while other arrays are made."""
        heads = torch.arange(self.num_heads, device=self.lengths.device).repeat(self.matrix.num_rows)
        shift = self.matrix.rowptr[:-1].repeat_interleave(self.num_heads) - self.rowptr[:-1]
        entry = torch.arange(self.num_entries, device=self.lengths.device) + self.spread(shift)
        return entry, self.spread(heads)

    @cached_property
    def order(self) -> Tensor:
        """int ``[num_entries]``: where entries are in a flattened ``[num_heads, entries of the matrix]``."""
        entry, head = self._entries()
        return (head * self.matrix.num_entries + entry).to(self.rowptr.dtype)

    @property
    def referenced(self) -> Tensor:
        """int64 ``[num_referenced]``: rows of the table that are read, ascending, each once."""
        return self._sources[0]

    @property
    def source(self) -> Csr:
        """Matrix over a flattened ``[num_referenced, num_heads]``: for numbers that were taken out of the
        table, which stay in the cache."""
        return self._sources[1]

    @cached_property
    def _sources(self) -> tuple[Tensor, Csr]:
        referenced, position = torch.unique(self.matrix.col, return_inverse=True)
        return referenced.to(torch.int64), self._over(position, self.num_heads, referenced.numel())

    def _over(self, col: Tensor, blocks: int, num_rows: int) -> Csr:
        """Matrix over a table cut into blocks, given a row of it for each of the matrix's entries."""
        entry, head = self._entries()
        num_blocks = num_rows * blocks
        index = self.rowptr.dtype if num_blocks < 2**31 else torch.int64
        picked = (col.to(torch.int64)[entry] * blocks + head).to(index)
        return Csr(self.rowptr.to(index), picked, picked.new_empty(0, dtype=torch.float32), num_blocks)

    def gather(self, by_source: Tensor) -> Tensor:
        """By entry, the number of its source.

        Args:
            by_source: ``[num_referenced, num_heads]``, rows in the order of `referenced`.
        """
        return by_source.reshape(-1).index_select(0, self.source.col)

    def weighted_sum(self, weights: Tensor, by_source: Tensor) -> Tensor:
        """By row, the weighted sum of numbers of the sources: ``[num_rows, num_heads]``.

        Args:
            weights: by entry.
            by_source: as for `gather`.
        """
        table = by_source.reshape(-1, 1)
        total = ops.of(weights.device).pull(self.source.with_value(weights), table)
        return total.view(-1, self.num_heads)

    def sum(self, values: Tensor) -> Tensor:
        """By row, the sum of values by entry: ``[num_rows, num_heads]``."""
        return self.weighted_sum(values, values.new_ones(self.referenced.numel(), self.num_heads))

    def pull(self, weights: Tensor, table: Tensor, width: int, columns: int | None = None) -> Tensor:
        """The weighted sums of the sources' rows, ``[num_rows, columns]``: ``width`` columns for each head.

        Args:
            weights: by entry.
            table: contiguous ``[num_table_rows, columns]``, which begins with ``width`` columns for each
                head. With several heads, its number of columns is a multiple of ``width``.
            width: columns of a head.
            columns: columns of the result, if it has more than those sums: what is behind them has to be
                written over. With several heads, a multiple of ``width``.
        """
        backend, used = ops.of(table.device), self.num_heads * width
        columns = used if columns is None else columns
        if table.shape[1] % width:  # one head, whose rows are read as they are, tail and all
            product = backend.pull(self.blocks(1, 1).with_value(weights), table)
            return product[:, :columns]
        made = max(columns // width, self.num_heads)
        matrix = self.blocks(table.shape[1] // width, made)
        product = backend.pull(matrix.with_value(weights), table.view(-1, width)).view(-1, made * width)
        return product if made * width == columns else F.pad(product, (0, columns - made * width))

    def blocks(self, read: int, made: int) -> Csr:
        """The matrix over a table whose rows are cut into blocks.

        Args:
            read: blocks of a row of the table.
            made: blocks of a row of the product; those behind the heads' are empty.
        """
        key = (read, made)
        if key not in self._by_blocks:
            if read == made == self.num_heads == 1:
                self._by_blocks[key] = self.matrix
            elif made > self.num_heads:
                self._by_blocks[key] = self._with_empty(self.blocks(read, self.num_heads), made)
            else:
                self._by_blocks[key] = self._over(self.matrix.col, read, self.matrix.num_cols)
        return self._by_blocks[key]

    def _with_empty(self, matrix: Csr, made: int) -> Csr:
        starts = matrix.rowptr[:-1].view(-1, self.num_heads)
        ends = matrix.rowptr[self.num_heads :: self.num_heads].unsqueeze(1)
        starts = torch.cat([starts, ends.expand(-1, made - self.num_heads)], dim=1)
        return replace(matrix, rowptr=torch.cat([starts.reshape(-1), matrix.rowptr[-1:]]), structure={})


def padded(columns: int, heads: int, width: int) -> int:
    """Columns of the rows of a table that `HeadEdges.pull` reads, of which ``columns`` are in use.

    Args:
        columns: columns in use: ``width`` for each head and a tail.
        heads: number of heads.
        width: columns of a head.
    """
    # a single head's tail is short enough to be read along; several have to begin at multiples of the width
    return columns if heads == 1 and columns < 2 * width else -(-columns // width) * width
