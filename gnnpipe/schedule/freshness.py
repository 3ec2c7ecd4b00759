"""How fresh the rows are that each layer reads, from the chunk order alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnpipe.config.resolved import Freeze
from gnnpipe.schedule.staleness import snapshot_due


@dataclass(frozen=True)
class Freshness:
    """What a layer reads in one epoch."""

    fresh: float
    """Share of the messages that carry a row of this epoch."""
    age: float
    """Mean age in epochs of what they carry: a row is as old as the rows that it was computed from, and older
    by the epochs since."""


class Ages:
    """Follows the age of every chunk's rows through layers and epochs.

    Args:
        messages: ``[2, num_chunks, num_chunks]``: messages from the rows of one chunk (last index) to those
            of another (middle index), inside parts and across parts.
        num_layers: that aggregate.
        freeze: when history is renewed.
        lookahead: positions behind its own that a reader finds fresh.
        stale_halo: whether what crosses parts is last epoch's.
    """

    def __init__(
        self, messages: np.ndarray, num_layers: int, freeze: Freeze, lookahead: int, *, stale_halo: bool
    ) -> None:
        inside, across = messages.astype(np.float64)
        self._inside, self._late = (inside, across) if stale_halo else (inside + across, 0 * across)
        self._read = np.maximum((self._inside + self._late).sum(axis=1), 1)
        self._freeze, self._lookahead = freeze, lookahead
        num_chunks = len(inside)
        # when the rows of history were written, and how old they were then: [layer, chunk]
        self._newest = np.zeros((num_layers, num_chunks))
        distance = np.subtract.outer(np.arange(num_chunks), np.arange(num_chunks))
        self._always_fresh = not self._late.any() and not self._inside[np.abs(distance) > lookahead].any()
        self._history = np.zeros((num_layers, num_chunks))
        self._written = -1

    def epoch(self, epoch: int, order: list[int], *, refreshed: bool = False) -> list[Freshness]:
        """Freshness of each layer.

        Args:
            epoch: its number.
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
            now[layer] = content
            historical = self._history[layer] + (epoch - self._written)
            summed = from_now @ content + from_history @ historical + self._late @ (before[layer] + 1)
            content = summed / self._read
            result.append(Freshness(share, float(summed.sum() / total) if total else 0.0))
        self._newest = now
        return result
