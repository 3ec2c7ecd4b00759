"""The two tables of a layer: the newest rows that it aggregates, and the newest gradients of its aggregates.

Chunks run one after the other, so a chunk reads rows of others from a table: *fresh* ones, which this epoch
has written, and *historical* ones.

    # order c2 c0 c1; c0 has just been put
    # table of rows        c0 fresh        c1 historical   c2 fresh
    # pull of c0 reads     own             last epoch's    this epoch's
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.config.resolved import Freeze, StalenessSettings
from gnnpipe.config.run import Gradient, HaloMode, TableFormat
from gnnpipe.graph.cut.chunks import Chunk
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.staleness import GradientRule, fresh_probability, gradient_rule, snapshot_due


@dataclass(frozen=True)
class TableSettings:
    """The staleness settings that tables carry out. The defaults keep nothing of an earlier epoch."""

    freeze: Freeze = ((0, 1),)
    """Epochs of the snapshots, see `snapshot_due`."""
    clean: bool = False
    """Whether rows of an earlier epoch are read as they were before dropout."""
    gradient: Gradient = "reuse"
    """How gradients of other chunks count."""
    weight: float | None = 1.0
    """Weight of last epoch's gradients; None to fit it, layer by layer and epoch by epoch."""
    fresh_probability: float = 0.5
    """Share of epochs in which a chunk's row is fresh when another chunk reads it."""
    waits: bool = False
    """Whether other chunks are put between a chunk's put and its own pull (lookahead)."""
    stale_halo: bool = False
    """Whether rows of other parts are last epoch's."""
    alone: bool = False
    """Whether there is only one chunk, so that a layer's gradients are used up before the next layer makes
    its own."""
    format: TableFormat = "fp32"
    """Number format of the rows."""

    @classmethod
    def of(cls, staleness: StalenessSettings, plan: Plan, halo: HaloMode = "exact") -> TableSettings:
        """Settings of a run under a plan.

        With one chunk, or a lookahead that covers every edge, every row is fresh, and the tables keep nothing
        of an earlier epoch (a stale halo is kept beside them).
        """
        waits, stale_halo = plan.lookahead > 0, halo == "stale"
        # no row is ever stale, whatever the staleness settings say
        if plan.num_chunks == 1 or plan.exact:
            alone = plan.num_chunks == 1
            return cls(waits=waits, stale_halo=stale_halo, alone=alone, format=plan.tables)
        return cls(
            staleness.snapshots,
            staleness.history == "clean",
            staleness.gradient,
            None if staleness.weight == "fitted" else staleness.weight,
            fresh_probability(plan.num_chunks, plan.lookahead),
            waits,
            stale_halo,
            format=plan.tables,
        )

    @property
    def rule(self) -> GradientRule:
        """Weights of pushed gradients."""
        return gradient_rule(self.gradient, self.weight or 0.0, self.fresh_probability)

    @property
    def dtype(self) -> torch.dtype:
        """PyTorch's name of the number format."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[self.format]

    @property
    def frozen(self) -> bool:
        """Whether rows are ever read from a snapshot."""
        return any(epochs > 1 for _, epochs in self.freeze)

    @property
    def keeps_gradients(self) -> bool:
        """Whether last epoch's gradients are kept beside the weighted rows that pulls read."""
        # Fitted and corrected weights compare new rows with last epoch's. With lookahead a chunk's rows are
        # weighed before its own pull, which counts them once: it needs them as they were.
        rule = gradient_rule(self.gradient, self.weight or 0.0, self.fresh_probability)
        return self.fitted or rule.corrected != 0 or (self.waits and rule.fresh != 1)

    @property
    def fitted(self) -> bool:
        """Whether the weight of last epoch's gradients is fitted; ``fresh`` has no such weight."""
        return self.weight is None and self.gradient != "fresh"

    @property
    def reads_last_gradients(self) -> bool:
        """Whether gradients of one epoch are read in the next."""
        return self.gradient != "fresh"

    @property
    def shares_gradients(self) -> bool:
        """Whether all layers of one width may share a gradient table, as no row outlives its own pull."""
        return self.alone and not self.stale_halo

    @property
    def tables_per_layer(self) -> int:
        """Number of tensors ``[num_rows, width]`` that a layer keeps; for the memory estimate."""
        # a shared gradient table is not a layer's own
        gradients = 0 if self.shares_gradients else 1 + self.keeps_gradients
        return 1 + (self.clean or self.frozen) + self.frozen + gradients

    @property
    def halo_tables_per_layer(self) -> int:
        """The same for halo rows. A stale halo adds the rows of a whole epoch that are under way: sent ones
        and incoming ones, forward and backward."""
        return self.tables_per_layer + 4 * self.stale_halo

    @property
    def versions_sent(self) -> int:
        """Number of forms in which a row travels to other parts: as this epoch reads it, and, if history is
        clean, as history keeps it."""
        return 1 + (self.clean and not self.stale_halo)


@contextmanager
def floats(space: Tensor) -> Iterator[Tensor]:
    """A float32 tensor to write rows into that end up in ``space``, rows of a table of any number format."""
    if space.dtype == torch.float32:
        yield space
        return
    rows = torch.empty_like(space, dtype=torch.float32)
    yield rows
    space.copy_(rows)


class ForwardTable:
    """``T``: the rows that a layer aggregates, ``[num_rows, width]``: the part's own, then its halo's.

        rows      read by pulls: fresh where this epoch has written, else history
        newest    the newest rows in the form that history keeps
        snapshot  the history that an epoch begins with

    Tensors that would be equal are one and the same:

        history dropped, no freeze    rows = newest = snapshot
        history clean, no freeze      rows,  newest = snapshot
        freeze                        rows,  newest,  snapshot

    Rows start at zero.

    Args:
        num_rows: rows of the part and of its halo.
        width: columns.
        settings: what the table keeps.
        device: device of the table.
    """

    def __init__(self, num_rows: int, width: int, settings: TableSettings, device: torch.device) -> None:
        self._settings = settings
        self.rows = torch.zeros(num_rows, width, dtype=settings.dtype, device=device)
        # Clean history differs from the rows that are read. Under freeze each epoch begins with the snapshot,
        # so that the newest rows have to be kept elsewhere until the next one is taken.
        separate = settings.clean or settings.frozen
        self.newest = torch.zeros_like(self.rows) if separate else self.rows
        self.snapshot = torch.zeros_like(self.rows) if settings.frozen else self.newest
        self.error = torch.zeros(2, dtype=torch.float64, device=device)
        """Sums over the own rows at the last comparison: squared distance of the newest rows from exact ones,
        and squares of the exact ones."""

    def begin_epoch(self, epoch: int) -> None:
        """Fill `rows` with history, after taking a new snapshot where one is due."""
        if self.snapshot is not self.newest and snapshot_due(self._settings.freeze, epoch):
            self.snapshot.copy_(self.newest)
        # otherwise the rows that the last epoch has written are history as they are
        if self.snapshot is not self.rows:
            self.rows.copy_(self.snapshot)

    def forget_error(self) -> None:
        """Begin a new comparison."""
        self.error.zero_()

    def compare(self, newest: Tensor, exact: Tensor) -> None:
        """Add up how far some of the newest rows are from exact ones, both ``[n, width]``."""
        distance = (newest - exact).double().square().sum()
        self.error += torch.stack([distance, exact.double().square().sum()])

    def refill(self, rows: Tensor) -> None:
        """Replace history before `begin_epoch`.

        Args:
            rows: ``[n, width]``: the part's own rows, and the halo's unless the halo is stale.
        """
        for history in (self.newest, self.snapshot):
            history[: len(rows)] = rows

    def written(self, own: Chunk, clean_rows: Callable[[], Tensor]) -> None:
        """Note that a chunk's fresh rows are in `rows`, so that history gets them too.

        Args:
            own: rows of the chunk.
            clean_rows: makes them without dropout; called only if history is clean.
        """
        if self.newest is not self.rows and own.num_nodes:
            kept = clean_rows() if self._settings.clean else self.rows[own.start : own.stop]
            self.newest[own.start : own.stop] = kept

    @property
    def sent(self) -> list[Tensor]:
        """The tensors whose boundary rows travel to other parts."""
        return [self.rows, self.newest] if self._settings.clean else [self.rows]

    def arrived(self, halo: Chunk) -> None:
        """Note that a chunk's halo rows have arrived in the tensors of `sent`."""
        # clean halo rows have travelled into `newest` themselves
        if self.newest is not self.rows and not self._settings.clean:
            self.newest[halo.start : halo.stop] = self.rows[halo.start : halo.stop]


class GradientTable:
    """``D``: gradient of the loss with respect to the aggregates of a layer, ``[num_rows, width]``: the
    part's own rows, then its halo's.

        rows    read by pulls
        newest  the newest gradients themselves, if a rule needs last epoch's; else the same tensor

    The rows of a chunk in the course of an epoch, weighted as `GradientRule` says:

        # moment        rows hold
        # epoch begins  historical * d_prev               read by chunks that run backward before it
        # put           d                                 read by its own pull, which counts them once
        # weighed       fresh * d - corrected * d_prev    read by chunks that run backward after it

    With lookahead rows are weighed when they are put, and `counted_once` undoes that for the own pull. Rows
    start at zero.

    Args:
        num_rows: rows of the part and of its halo.
        width: columns.
        settings: what the table keeps, and how rows are weighed.
        device: device of the table.
        weighed: number of the first columns that are weighed; the others stand as they are, see `Gathers`.
            None for all.
    """

    def __init__(
        self,
        num_rows: int,
        width: int,
        settings: TableSettings,
        device: torch.device,
        weighed: int | None = None,
    ) -> None:
        self._settings = settings
        self._weighed = width if weighed is None else weighed
        self.rows = torch.zeros(num_rows, width, dtype=settings.dtype, device=device)
        self.newest = torch.zeros_like(self.rows) if settings.keeps_gradients else self.rows
        self.fit = torch.zeros(2, dtype=torch.float64, device=device)
        """Inner products over the part's own rows: this epoch's with last epoch's, last epoch's with
        themselves."""
        self.weight = settings.weight or 0.0

    def begin_epoch(self) -> None:
        """Turn last epoch's rows into history: weigh them as chunks read them that run before their owner."""
        self._rule = gradient_rule(self._settings.gradient, self.weight, self._settings.fresh_probability)
        # fresh: historical is 0, which clears the table; reuse with weight 1: rows stay as they are
        if self.newest is not self.rows:
            torch.mul(self.newest, self._rule.historical, out=self.rows)
            self.rows[:, self._weighed :] = self.newest[:, self._weighed :]
        elif self._rule.historical != 1.0:
            self.rows[:, : self._weighed].mul_(self._rule.historical)

    @property
    def stand(self) -> bool:
        """Whether `weigh` leaves this epoch's rows as they are, as wherever no row is stale."""
        return self.newest is self.rows and self._rule.fresh == 1.0

    def weigh(self, ranges: list[Chunk]) -> None:
        """Weigh a chunk's rows for the pulls of other chunks.

        Args:
            ranges: the chunk's rows of the table: the part's own, then its halo's if any.
        """
        if self.stand:
            return
        for index, span in enumerate(ranges):
            rows = self.rows[span.start : span.stop]
            # a rule that needs no last epoch's gradients only scales; see `TableSettings.keeps_gradients`
            if self.newest is self.rows:
                if self._rule.fresh != 1.0:
                    rows[:, : self._weighed].mul_(self._rule.fresh)
                continue
            previous = self.newest[span.start : span.stop]
            # only own rows are fitted to: a halo row is one of its owner's, and would count twice
            if self._settings.fitted and index == 0:
                now, before = rows[:, : self._weighed].double(), previous[:, : self._weighed]
                self.fit += torch.stack([(now * before).sum(), before.double().square().sum()])
            as_they_are = rows[:, self._weighed :].clone()
            ops.of(rows.device).weigh(rows, previous, self._rule.fresh, self._rule.corrected)
            rows[:, self._weighed :] = as_they_are

    @contextmanager
    def counted_once(self, ranges: list[Chunk]) -> Iterator[None]:
        """Let a chunk's own pull read its rows unweighted, though they are already weighed for others.

        Args:
            ranges: as for `weigh`.
        """
        # a rule that keeps no `newest` weighs fresh rows by 1: they are unweighted anyway
        if self.newest is self.rows:
            yield
            return
        weighed = [self.rows[span.start : span.stop].clone() for span in ranges]
        for span in ranges:
            self.rows[span.start : span.stop] = self.newest[span.start : span.stop]
        yield
        for span, rows in zip(ranges, weighed, strict=True):
            self.rows[span.start : span.stop] = rows


def fit_weights(tables: Sequence[GradientTable]) -> None:
    """Choose each table's weight between two epochs.

    It is the least-squares fit of the last epoch's gradients d by those of the epoch before, within 0 to 1:
    ``min |d - w d_prev|^2`` gives ``w = <d, d_prev> / <d_prev, d_prev>``.

    The numbers of all tables are read at once, as each read waits for the device.
    """
    fits = torch.stack([table.fit for table in tables]).tolist() if tables else []
    for table, (product, square) in zip(tables, fits, strict=True):
        table.weight = min(max(product / square, 0.0), 1.0) if square > 0 else 0.0
        table.fit.zero_()
