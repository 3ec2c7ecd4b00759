"""What rows and edges cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gnnpipe.planner.costs import GraphSize, LayerShape, layer_seconds, row_cost
from gnnpipe.planner.hardware import REFERENCE


@pytest.mark.parametrize("hidden", [32, 64, 128, 256])
def test_a_row_costs_as_many_edges_as_the_rates_say(hidden: int) -> None:
    """By the cost model itself: what one more row adds over what one more edge adds."""
    shape = LayerShape(hidden, hidden, hidden, hidden**2)

    def seconds(rows: int, edges: int) -> float:
        return layer_seconds(shape, GraphSize(rows, edges), REFERENCE, 0).total

    row, edge = seconds(1001, 5000) - seconds(1000, 5000), seconds(1000, 5001) - seconds(1000, 5000)
    assert row_cost(hidden) == pytest.approx(row / edge, rel=1e-6)


def test_a_row_costs_what_it_did_when_this_was_written() -> None:
    assert [round(row_cost(hidden)) for hidden in (32, 64, 128, 256)] == [16, 21, 30, 48]


def test_rows_cost_more_where_edges_are_cheap() -> None:
    fast = replace(REFERENCE, gather=REFERENCE.gather / 2)
    assert row_cost(64, fast) == pytest.approx(2 * row_cost(64))
