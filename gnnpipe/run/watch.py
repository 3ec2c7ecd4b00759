"""Watching a run for signs that stale rows lead it astray."""

from __future__ import annotations

from collections.abc import Iterator

from gnnpipe.records.record import EpochRecord

# A small loss often doubles and falls again; a warning needs it above the first epoch's loss, too.
RISE = 2.0
# Relative error of stale rows at which nothing of the exact rows is left in them.
LOST = 1.0
# Relative error below which a growing error is not worth a warning.
NOTABLE = 0.1


class Watch:
    """Warns, once for each sign, that training goes astray, and names the setting to change.

    Args:
        stale: whether the run reads stale rows.
    """

    def __init__(self, *, stale: bool) -> None:
        self._stale = stale
        self._first_loss: float | None = None
        self._least_loss = float("inf")
        self._said: set[str] = set()
        self._errors: list[float] = []

    def warnings(self, record: EpochRecord) -> Iterator[str]:
        """Warnings that an epoch's record gives reason for. Takes the records of all epochs, in order."""
        if record.loss is None:  # the warning of a skipped epoch is the trainer's
            return
        yield from self._about_loss(record.loss)
        if record.table_errors:
            yield from self._about_stale_rows(record.table_errors)

    def _about_loss(self, loss: float) -> Iterator[str]:
        if self._first_loss is None:
            self._first_loss = loss
        self._least_loss = min(self._least_loss, loss)
        if loss > max(RISE * self._least_loss, self._first_loss) and self._first("loss"):
            advice = (
                "a lower --lr or --staleness.weight, or fewer --chunks, keep a pipeline stable, and "
                "--check-gradient 5 shows how far its gradient is from the exact one"
            )
            yield (
                f"the loss is {loss:.3g}, after {self._least_loss:.3g} before and {self._first_loss:.3g} at "
                f"first; {advice if self._stale else 'use a lower --lr'}"
            )

    def _about_stale_rows(self, errors: dict[str, float]) -> Iterator[str]:
        """Warn of rows without information, and of an error that has doubled; both are of all layers."""
        worst = max((name for name in errors if name != "all"), key=lambda name: errors[name], default="all")
        error = errors.get("all", 0.0)
        self._errors.append(error)
        least = min(self._errors)
        grown = len(self._errors) > 2 and error > RISE * least
        if (error > LOST or (grown and error > NOTABLE)) and self._first("tables"):
            yield (
                f"rows are {error:.0%} off the exact ones ({worst} most: {errors[worst]:.0%}), "
                f"after {least:.0%} before; a lower --lr or --staleness.weight, or fewer "
                "--chunks, bring them closer"
            )

    def _first(self, sign: str) -> bool:
        if sign in self._said:
            return False
        self._said.add(sign)
        return True
