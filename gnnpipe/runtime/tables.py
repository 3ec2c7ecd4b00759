"""The two tables of a layer: its newest known input rows, and gradients of its aggregates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.base.config import HaloMode, StalenessConfig
from gnnpipe.graph.chunks import Chunk
from gnnpipe.plan.staleness import GradientRule, gradient_rule


@dataclass(frozen=True)
class TableSettings:
    """The staleness settings that tables carry out."""

    freeze: int
    clean: bool
    """Whether rows of an earlier epoch are read as they were before dropout."""
    rule: GradientRule
    stale_halo: bool = False
    """Whether rows of other parts are last epoch's."""

    @classmethod
    def of(cls, staleness: StalenessConfig, num_chunks: int, halo: HaloMode = "exact") -> TableSettings:
        """Settings of a resolved config. With one chunk every row read is the chunk's own, so that the tables
        need keep nothing of an earlier epoch (a stale halo is kept beside them)."""
        if num_chunks == 1:
            return cls(1, False, gradient_rule("reuse", 0.0), halo == "stale")
        assert staleness.freeze is not None
        assert staleness.gradient is not None
        assert staleness.weight is not None
        rule = gradient_rule(staleness.gradient, staleness.weight)
        return cls(staleness.freeze, staleness.history == "clean", rule, halo == "stale")

    @property
    def tables_per_layer(self) -> int:
        """Tables of ``[num_rows, width]`` that a layer keeps; for the memory estimate."""
        forward = 1 + self.clean + (self.freeze > 1) + (self.freeze > 1 and not self.clean)
        return forward + 1 + (self.rule.corrected > 0)

    @property
    def halo_tables_per_layer(self) -> int:
        """The same for halo rows: a stale halo keeps a whole epoch's rows under way, both those that were
        sent and those that arrive, in both directions."""
        return self.tables_per_layer + 4 * self.stale_halo

    @property
    def versions_sent(self) -> int:
        """Forms in which a row goes to other parts: as it is read today, and as history keeps it."""
        return 1 + (self.clean and not self.stale_halo)


class ForwardTable:
    """``T``: input rows of a layer, ``[num_rows, width]``: the part's own, then its halo's.

        rows      what pulls read: fresh where this epoch has written, else history
        newest    the newest rows in the form that history keeps (dropped: the same tensor as rows)
        snapshot  history under freeze > 1 (else the same tensor as newest)

    Rows start at zero.
    """

    def __init__(self, num_rows: int, width: int, settings: TableSettings, device: torch.device) -> None:
        self._settings = settings
        self.rows = torch.zeros(num_rows, width, device=device)
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

    def write(self, own: Chunk, rows: Tensor, clean_rows: Callable[[], Tensor]) -> None:
        """Store a chunk's fresh rows; ``clean_rows`` makes them without dropout, if history wants those."""
        self.rows[own.start : own.stop] = rows
        if self.newest is not self.rows:
            kept = clean_rows() if self._settings.clean else rows
            self.newest[own.start : own.stop] = kept

    @property
    def sent(self) -> list[Tensor]:
        """The tensors whose boundary rows other parts need."""
        return [self.rows, self.newest] if self._settings.clean else [self.rows]

    def arrived(self, halo: Chunk) -> None:
        """Take in a chunk's halo rows, which `sent`'s tensors now hold."""
        if self.newest is not self.rows and not self._settings.clean:
            self.newest[halo.start : halo.stop] = self.rows[halo.start : halo.stop]


class GradientTable:
    """``D``: gradient of the loss with respect to the aggregates of a layer, ``[num_rows, width]``: the
    part's own rows, then its halo's.

        rows    what pulls read: rows already weighted as `GradientRule` says
        newest  the newest gradients themselves, kept if a rule needs last epoch's (else the same tensor)

    Rows start at zero.
    """

    def __init__(self, num_rows: int, width: int, settings: TableSettings, device: torch.device) -> None:
        self._rule = settings.rule
        self.rows = torch.zeros(num_rows, width, device=device)
        self.newest = torch.zeros_like(self.rows) if settings.rule.corrected else self.rows

    def begin_epoch(self) -> None:
        """Turn the rows of the last epoch into history."""
        if self.newest is not self.rows:
            torch.mul(self.newest, self._rule.historical, out=self.rows)
        elif self._rule.historical != 1.0:
            self.rows.mul_(self._rule.historical)

    def write(self, start: int, gradient: Tensor) -> None:
        """Store gradients as the chunk's own pull reads them: counted once."""
        self.rows[start : start + len(gradient)] = gradient

    def weigh(self, rows: Chunk) -> None:
        """Weigh a chunk's rows for the pulls of the chunks behind it, once its own is done."""
        own = self.rows[rows.start : rows.stop]
        if self.newest is not self.rows:
            gradient = own.clone()
            previous = self.newest[rows.start : rows.stop]
            own.mul_(self._rule.fresh).sub_(previous, alpha=self._rule.corrected)
            previous.copy_(gradient)
        elif self._rule.fresh != 1.0:
            own.mul_(self._rule.fresh)
