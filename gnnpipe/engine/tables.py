"""The two tables of a layer: its newest known input rows, and gradients of its aggregates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.config.resolved import Freeze, StalenessSettings
from gnnpipe.config.run import Gradient, HaloMode, TableFormat
from gnnpipe.graph.chunks import Chunk
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.staleness import fresh_probability, gradient_rule, snapshot_due


@dataclass(frozen=True)
class TableSettings:
    """The staleness settings that tables carry out. The defaults keep nothing of an earlier epoch."""

    freeze: Freeze = ((0, 1),)
    clean: bool = False
    """Whether rows of an earlier epoch are read as they were before dropout."""
    gradient: Gradient = "reuse"
    weight: float | None = 1.0
    """Of last epoch's gradients; None to fit it, layer by layer and epoch by epoch."""
    fresh_probability: float = 0.5
    """Share of epochs in which a chunk's row is fresh when another one reads it."""
    waits: bool = False
    """Whether other chunks come between the write of a chunk's rows and its own pull (lookahead)."""
    stale_halo: bool = False
    """Whether rows of other parts are last epoch's."""
    alone: bool = False
    """Whether there is but one chunk, so that a layer's gradients are read before the next layer has any."""
    format: TableFormat = "fp32"
    """How rows are held."""

    @classmethod
    def of(cls, staleness: StalenessSettings, plan: Plan, halo: HaloMode = "exact") -> TableSettings:
        """Settings of a run under a plan. With one chunk, or a lookahead that no read goes beyond, every row
        is fresh, and the tables need keep nothing of an earlier epoch (a stale halo is kept beside them)."""
        waits, stale_halo = plan.lookahead > 0, halo == "stale"
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
    def dtype(self) -> torch.dtype:
        """Of the tables."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[self.format]

    @property
    def frozen(self) -> bool:
        """Whether rows are ever read from a snapshot."""
        return any(epochs > 1 for _, epochs in self.freeze)

    @property
    def keeps_gradients(self) -> bool:
        """Whether last epoch's gradients are needed beside what pulls read."""
        rule = gradient_rule(self.gradient, self.weight or 0.0, self.fresh_probability)
        return self.fitted or rule.corrected != 0 or (self.waits and rule.fresh != 1)

    @property
    def fitted(self) -> bool:
        """Whether the weight of last epoch's gradients is fitted; ``fresh`` reads none of them."""
        return self.weight is None and self.gradient != "fresh"

    @property
    def reads_last_gradients(self) -> bool:
        """Whether gradients of an epoch count in the next one."""
        return self.gradient != "fresh"

    @property
    def shares_gradients(self) -> bool:
        """Whether all layers of a width may have one gradient table: nobody reads it later on."""
        return self.alone and not self.stale_halo

    @property
    def tables_per_layer(self) -> int:
        """Tables of ``[num_rows, width]`` that a layer keeps; for the memory estimate."""
        gradients = 0 if self.shares_gradients else 1 + self.keeps_gradients
        return 1 + (self.clean or self.frozen) + self.frozen + gradients

    @property
    def halo_tables_per_layer(self) -> int:
        """The same for halo rows: a stale halo keeps a whole epoch's rows under way, both those that were
        sent and those that arrive, in both directions."""
        return self.tables_per_layer + 4 * self.stale_halo

    @property
    def tables_in_checkpoint(self) -> int:
        """Tables of a layer from which the next epoch begins."""
        return 1 + self.frozen + self.reads_last_gradients

    @property
    def versions_sent(self) -> int:
        """Forms in which a row goes to other parts: as it is read today, and as history keeps it."""
        return 1 + (self.clean and not self.stale_halo)


@contextmanager
def floats(space: Tensor) -> Iterator[Tensor]:
    """Where float32 rows may be written that are to stand in ``space``, rows of a table of any format."""
    if space.dtype == torch.float32:
        yield space
        return
    rows = torch.empty_like(space, dtype=torch.float32)
    yield rows
    space.copy_(rows)


class ForwardTable:
    """``T``: input rows of a layer, ``[num_rows, width]``: the part's own, then its halo's.

        rows      what pulls read: fresh where this epoch has written, else history
        newest    the newest rows in the form that history keeps (dropped: the same tensor as rows)
        snapshot  history under freeze (else the same tensor as newest)

    Rows start at zero.
    """

    def __init__(self, num_rows: int, width: int, settings: TableSettings, device: torch.device) -> None:
        self._settings = settings
        self.rows = torch.zeros(num_rows, width, dtype=settings.dtype, device=device)
        separate = settings.clean or settings.frozen
        self.newest = torch.zeros_like(self.rows) if separate else self.rows
        self.snapshot = torch.zeros_like(self.rows) if settings.frozen else self.newest
        self.error = torch.zeros(2, dtype=torch.float64, device=device)
        """Of the newest own rows when they were last compared: squared distance from exact ones, and those'
        square."""

    def begin_epoch(self, epoch: int) -> None:
        """Bring history into place, with a new snapshot where one is due."""
        if self.snapshot is not self.newest and snapshot_due(self._settings.freeze, epoch):
            self.snapshot.copy_(self.newest)
        if self.snapshot is not self.rows:
            self.rows.copy_(self.snapshot)

    def forget_error(self) -> None:
        """A comparison begins."""
        self.error.zero_()

    def compare(self, newest: Tensor, exact: Tensor) -> None:
        """Note how far some of the newest rows are from exact ones."""
        distance = (newest - exact).double().square().sum()
        self.error += torch.stack([distance, exact.double().square().sum()])

    def refill(self, rows: Tensor) -> None:
        """Replace history before `begin_epoch`.

        Args:
            rows: ``[n, width]``: the part's own, and the halo's, but where that is last epoch's anyway.
        """
        for history in (self.newest, self.snapshot):
            history[: len(rows)] = rows

    def written(self, own: Chunk, clean_rows: Callable[[], Tensor]) -> None:
        """A chunk's fresh rows have been written to `rows`; ``clean_rows`` makes them without dropout, if
        history wants those."""
        if self.newest is not self.rows and own.num_nodes:
            kept = clean_rows() if self._settings.clean else self.rows[own.start : own.stop]
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

        rows    what pulls read: a chunk's rows as they are written until its own pull, which counts them
                once, then weighted as `GradientRule` says
        newest  the newest gradients themselves, kept if a rule needs last epoch's (else the same tensor)

    Rows start at zero.
    """

    def __init__(self, num_rows: int, width: int, settings: TableSettings, device: torch.device) -> None:
        self._settings = settings
        self.rows = torch.zeros(num_rows, width, dtype=settings.dtype, device=device)
        self.newest = torch.zeros_like(self.rows) if settings.keeps_gradients else self.rows
        self.fit = torch.zeros(2, dtype=torch.float64, device=device)
        """Inner products of this epoch's own rows with last epoch's, and of those with themselves."""
        self.weight = settings.weight or 0.0

    def begin_epoch(self) -> None:
        """Turn the rows of the last epoch into history."""
        self._rule = gradient_rule(self._settings.gradient, self.weight, self._settings.fresh_probability)
        if self.newest is not self.rows:
            torch.mul(self.newest, self._rule.historical, out=self.rows)
        elif self._rule.historical != 1.0:
            self.rows.mul_(self._rule.historical)

    def weigh(self, ranges: list[Chunk]) -> None:
        """Weigh a chunk's rows for the pulls of other chunks.

        Args:
            ranges: the part's own rows of the chunk, and the halo's.
        """
        for number, span in enumerate(ranges):
            rows = self.rows[span.start : span.stop]
            if self.newest is self.rows:
                if self._rule.fresh != 1.0:
                    rows.mul_(self._rule.fresh)
                continue
            previous = self.newest[span.start : span.stop]
            if self._settings.fitted and number == 0:
                pair = (rows.double() * previous).sum(), previous.double().square().sum()
                self.fit += torch.stack(pair)
            ops.of(rows.device).weigh(rows, previous, self._rule.fresh, self._rule.corrected)

    @contextmanager
    def counted_once(self, ranges: list[Chunk]) -> Iterator[None]:
        """Let a chunk's rows, which are weighed for others already, count once for its own pull."""
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
    """Between two epochs: choose each table's weight by how its last two epochs went together.

    The numbers of all tables are read at once, as each read waits for the device.
    """
    fits = torch.stack([table.fit for table in tables]).tolist() if tables else []
    for table, (product, square) in zip(tables, fits, strict=True):
        table.weight = min(max(product / square, 0.0), 1.0) if square > 0 else 0.0
        table.fit.zero_()
