"""Features and types of the entries of a normalised adjacency: made whole, or block by block in a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnpipe.files.writing import TensorWriter
from gnnpipe.graph.blocks import BLOCK_ENTRIES, Rows
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.edge_data import EdgeData
from gnnpipe.graph.prepare.normalize import Normalizer
from gnnpipe.graph.transpose import transposed_pieces


@dataclass(frozen=True)
class EdgeRows:
    """Features and types of the entries of a normalised adjacency, in their order.

    A self loop that was added has the mean of the features of its node's other edges, 0 without any, as
    torch_geometric's ``fill_value="mean"`` makes them; its type is a number of its own, behind all others.
    """

    data: EdgeData
    """Of the entries of the adjacency as it was given."""
    normalizer: Normalizer
    """Makes the entries; parallel edges are kept apart."""
    order: np.ndarray
    """int64 ``[num_nodes]``: old id of each row."""
    loop_type: int
    """Type of added self loops."""

    def whole(self) -> EdgeData:
        """The result in memory."""
        found = {name: torch.empty_like(tensor, device="cpu") for name, tensor in self.shapes().items()}
        done = 0
        for block in self._blocks():
            for name, rows in _named(block).items():
                found[name][done : done + len(rows)] = rows
                size = len(rows)
            done += size
        return EdgeData(found.get("edge_attr"), found.get("edge_type"))

    def shapes(self) -> dict[str, Tensor]:
        """Tensors without content, as `gnnpipe.files.writing.new_tensors` wants them."""
        size = self.normalizer.num_entries
        return {
            name: torch.empty(size, *rows.shape[1:], dtype=rows.dtype, device="meta")
            for name, rows in _named(self.data).items()
        }

    def write(self, file: TensorWriter) -> None:
        """Write the result."""
        for block in self._blocks():
            for name, rows in _named(block).items():
                file.append(name, rows)

    def _blocks(self) -> Iterator[EdgeData]:
        for _, _, rows in self.normalizer.rows(self.order):
            yield self._of_rows(rows)

    def _of_rows(self, rows: Rows) -> EdgeData:
        entry = _numbers(rows)
        added = entry < 0
        found = self.data.taken(torch.from_numpy(entry).clamp(min=0))
        if added.any():
            if found.type is not None:
                found.type[torch.from_numpy(added)] = self.loop_type
            if found.attr is not None:
                _fill_means(found.attr.numpy(), rows)
        return found


def is_symmetric_in(adjacency: Csr, data: EdgeData) -> bool:
    """Whether each entry and its reverse have the same features and types; holds a piece of the transpose.

    Args:
        adjacency: as in `Graph`; every edge has a reverse.
        data: of its entries.
    """
    for start, rows in transposed_pieces(adjacency, entries=True):
        entry, first = torch.from_numpy(_numbers(rows)), int(adjacency.rowptr[start])
        if not np.array_equal(rows.col, adjacency.col.numpy()[first : first + len(entry)]):
            return False
        for reverses in entry.split(BLOCK_ENTRIES):
            given = torch.arange(first, first + len(reverses))
            if not _equal(data.taken(reverses), data.taken(given)):
                return False
            first += len(reverses)
    return True


def _equal(one: EdgeData, other: EdgeData) -> bool:
    pairs = zip(_named(one).values(), _named(other).values(), strict=True)
    return all(torch.equal(rows, others) for rows, others in pairs)


def _fill_means(attr: np.ndarray, rows: Rows) -> None:
    """Give entries that were added the mean of the other features in their row.

    Args:
        attr: features of the entries, to write to.
        rows: the entries; each row has one added entry at most.
    """
    entry, row = _numbers(rows), rows.row
    added = np.flatnonzero(entry < 0)
    others = np.flatnonzero((entry >= 0) & np.isin(row, row[added]))
    # in the order of the given numbers: sums then don't depend on the plan
    others = others[np.argsort(entry[others])]
    count = np.bincount(row[others], minlength=len(rows.rowptr) - 1)[row[added]]
    for column in range(attr.shape[1]):
        total = np.bincount(row[others], attr[others, column], minlength=len(rows.rowptr) - 1)[row[added]]
        attr[added, column] = total / np.maximum(count, 1)


def _numbers(rows: Rows) -> np.ndarray:
    """The numbers of entries; raises ValueError where they were not asked for."""
    if rows.entry is None:
        raise ValueError("rows without the numbers of their entries")
    return rows.entry


def _named(data: EdgeData) -> dict[str, Tensor]:
    """Its tensors, by their names in the file of a prepared graph."""
    return {
        name: rows for name, rows in (("edge_attr", data.attr), ("edge_type", data.type)) if rows is not None
    }
