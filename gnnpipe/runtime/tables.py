"""The two tables of a layer: its newest known input rows, and gradients of its aggregates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.base.config import StalenessConfig
from gnnpipe.graph.chunks import Chunk
from gnnpipe.graph.csr import Csr
from gnnpipe.plan.staleness import GradientRule, gradient_rule


@dataclass(frozen=True)
class TableSettings:
    """The staleness settings that tables carry out."""

    freeze: int
    clean: bool
    """Whether rows of an earlier epoch are read as they were before dropout."""
    rule: GradientRule

    @classmethod
    def of(cls, staleness: StalenessConfig, num_chunks: int) -> TableSettings:
        """Settings of a resolved config. With one chunk every row read is the chunk's own and nothing is
        stale, so that the tables need keep nothing."""
        if num_chunks == 1:
            return cls(1, False, gradient_rule("reuse", 0.0))
        assert staleness.freeze is not None
        assert staleness.gradient is not None
        assert staleness.weight is not None
        rule = gradient_rule(staleness.gradient, staleness.weight)
        return cls(staleness.freeze, staleness.history == "clean", rule)

    @property
    def tables_per_layer(self) -> int:
        """Tables of ``[num_nodes, width]`` that a layer keeps; for the memory estimate."""
        forward = 1 + self.clean + (self.freeze > 1) + (self.freeze > 1 and not self.clean)
        return forward + 1 + (self.rule.corrected > 0)


class ForwardTable:
    """``T``: input rows of a layer, ``[num_nodes, width]``.

        rows      what pulls read: fresh where this epoch has written, else history
        newest    the newest rows in the form that history keeps (dropped: the same tensor as rows)
        snapshot  history under freeze > 1 (else the same tensor as newest)

    Rows start at zero.
    """

    def __init__(self, num_nodes: int, width: int, settings: TableSettings, device: torch.device) -> None:
        self._settings = settings
        self.rows = torch.zeros(num_nodes, width, device=device)
        separate = settings.clean or settings.freeze > 1
        self.newest = torch.zeros_like(self.rows) if separate else self.rows
        self.snapshot = torch.zeros_like(self.rows) if settings.freeze > 1 else self.newest

    def begin_epoch(self, epoch: int) -> None:
        """Bring history into place. Snapshots are taken at epoch 1, when there are rows at all, and from
        there every ``freeze`` epochs."""
        freeze = self._settings.freeze
        if self.snapshot is not self.newest and epoch % freeze == 1:
            self.snapshot.copy_(self.newest)
        if self.snapshot is not self.rows:
            self.rows.copy_(self.snapshot)

    def write(self, chunk: Chunk, rows: Tensor, clean_rows: Callable[[], Tensor]) -> None:
        """Store a chunk's fresh rows; ``clean_rows`` makes them without dropout, if history wants those."""
        self.rows[chunk.start : chunk.stop] = rows
        if self.newest is not self.rows:
            kept = clean_rows() if self._settings.clean else rows
            self.newest[chunk.start : chunk.stop] = kept


class GradientTable:
    """``D``: gradient of the loss with respect to the aggregates of a layer, ``[num_nodes, width]``.

        rows    what pulls read: rows already weighted as `GradientRule` says
        newest  the newest gradients themselves, kept if a rule needs last epoch's (else the same tensor)

    Rows start at zero.
    """

    def __init__(self, num_nodes: int, width: int, settings: TableSettings, device: torch.device) -> None:
        self._rule = settings.rule
        self.rows = torch.zeros(num_nodes, width, device=device)
        self.newest = torch.zeros_like(self.rows) if settings.rule.corrected else self.rows

    def begin_epoch(self) -> None:
        """Turn the rows of the last epoch into history."""
        if self.newest is not self.rows:
            torch.mul(self.newest, self._rule.historical, out=self.rows)
        elif self._rule.historical != 1.0:
            self.rows.mul_(self._rule.historical)

    def exchange(self, chunk: Chunk, gradient: Tensor, transposed_rows: Csr) -> Tensor:
        """Store a chunk's gradient and pull what reaches it: ``A^T[chunk] @ D``, own rows counted once."""
        own = self.rows[chunk.start : chunk.stop]
        own.copy_(gradient)
        pulled = transposed_rows @ self.rows
        if self._rule.fresh != 1.0:
            own.mul_(self._rule.fresh)
        if self.newest is not self.rows:
            previous = self.newest[chunk.start : chunk.stop]
            own.sub_(previous, alpha=self._rule.corrected)
            previous.copy_(gradient)
        return pulled
