"""How fresh the rows are that each layer reads, from the chunk orders alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnpipe.config.resolved import Freeze
from gnnpipe.schedule.staleness import snapshot_due


@dataclass(frozen=True)
class Freshness:
    """Freshness of the rows that one layer reads in one epoch."""

    fresh: float
    """Share of the messages (edges) that carry a row of this epoch."""
    age: float
    """Mean age of the rows that they carry, in epochs: the mean age of the rows that a row was computed from,
    plus the epochs since then."""


class Ages:
    """Follows the age of every chunk's rows through layers and epochs.

    A chunk is taken as a whole: its output rows are as old as the rows that it reads, in the mean.

        # fresh row, of age a                          age a
        # historical row, of age a, e epochs ago       age a + e
        # rows that layer 0 puts (features)            age 0 when they are put
        # rows that layer n + 1 puts                   mean age of the rows that layer n read

    Args:
        messages: ``[2, num_chunks, num_chunks]``: number of messages by the chunk that reads (middle index)
            and the chunk that owns the row (last index); first inside parts, then across parts.
        num_layers: number of layers that aggregate.
        freeze: when history is renewed.
        lookahead: positions behind its own up to which a reader finds rows fresh.
        stale_halo: whether rows that cross parts are last epoch's.
    """

    def __init__(
        self, messages: np.ndarray, num_layers: int, freeze: Freeze, lookahead: int, *, stale_halo: bool
    ) -> None:
        inside, across = messages.astype(np.float64)
        self._inside, self._late = (inside, across) if stale_halo else (inside + across, 0 * across)
        self._read = np.maximum((self._inside + self._late).sum(axis=1), 1)
        self._freeze, self._lookahead = freeze, lookahead
        num_chunks = len(inside)
        # [layer, chunk]: age of the rows that the last epoch wrote, in that epoch
        self._newest = np.zeros((num_layers, num_chunks))
        # with all edges within the lookahead, the order 0, 1, 2 ... leaves nothing stale
        distance = np.subtract.outer(np.arange(num_chunks), np.arange(num_chunks))
        self._always_fresh = not self._late.any() and not self._inside[np.abs(distance) > lookahead].any()
        # [layer, chunk]: age of the rows of history when they were written, and the epoch that wrote them
        self._history = np.zeros((num_layers, num_chunks))
        self._written = -1

    def epoch(self, epoch: int, order: list[int], *, refreshed: bool = False) -> list[Freshness]:
        """Freshness of each layer.

        Args:
            epoch: number of the epoch.
            order: number of the chunk at each position.
            refreshed: whether history was replaced by exact rows just before.
        """
        if self._always_fresh and order == sorted(order):
            return [Freshness(1.0, 0.0)] * len(self._newest)
        if refreshed:
            self._history, self._written = np.zeros_like(self._history), epoch
        elif epoch == 0 or snapshot_due(self._freeze, epoch):
            self._history, self._written = self._newest.copy(), epoch - 1
        position = np.empty(len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        # [reader, owner]: the owner's rows are there when the reader pulls
        #
        #     order 2 0 1, no lookahead    reader 2: 2    reader 0: 2 0    reader 1: 2 0 1
        fresh = position[None, :] <= position[:, None] + self._lookahead
        np.fill_diagonal(fresh, True)
        from_now = self._inside * fresh
        from_history = self._inside - from_now
        total = self._read.sum()
        share = float(from_now.sum() / total) if total else 1.0
        before = self._newest
        now = np.zeros_like(self._newest)
        result = []
        content = np.zeros(len(order))
        for layer in range(len(now)):
            now[layer] = content  # age of the layer's input rows, which this epoch writes to its table
            historical = self._history[layer] + (epoch - self._written)
            summed = from_now @ content + from_history @ historical + self._late @ (before[layer] + 1)
            content = summed / self._read
            result.append(Freshness(share, float(summed.sum() / total) if total else 0.0))
        self._newest = now
        return result
