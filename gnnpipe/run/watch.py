"""Watching a run for signs that stale rows lead it astray."""

from __future__ import annotations

from collections.abc import Iterator

from gnnpipe.records.record import EpochRecord

# Losses swing, small ones by far more than twice; to forget all that was learnt is another matter.
RISE = 2.0
# Rows as far from the exact ones as these are long carry nothing of them.
LOST = 1.0
# Below this share of their length an error may double unnoticed.
NOTABLE = 0.1


class Watch:
    """Says once what goes wrong, and which setting to change.

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
        """What an epoch's record gives reason to say."""
        loss = record.loss
        if loss is None:  # a skipped epoch, which says so itself
            return
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
        errors = record.table_errors
        if not errors:
            return
        worst = max((name for name in errors if name != "all"), key=lambda name: errors[name], default="all")
        self._errors.append(errors.get("all", 0.0))
        grown = len(self._errors) > 2 and self._errors[-1] > RISE * min(self._errors)
        far = self._errors[-1] > LOST or (grown and self._errors[-1] > NOTABLE)
        if far and self._first("tables"):
            yield (
                f"rows are {self._errors[-1]:.0%} off the exact ones ({worst} most: {errors[worst]:.0%}), "
                f"after {min(self._errors):.0%} before; a lower --lr or --staleness.weight, or fewer "
                "--chunks, bring them closer"
            )

    def _first(self, what: str) -> bool:
        if what in self._said:
            return False
        self._said.add(what)
        return True
