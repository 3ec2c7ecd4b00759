"""The sweep that fills tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gnnpipe.comm.groups import Links
from gnnpipe.comm.stage_links import Messages
from gnnpipe.engine.sweep import refresh
from tests.graphs import random_graph
from tests.harness import CPU, NEWEST, Case, make_stage


def test_a_refresh_tells_the_error_of_the_rows_that_it_replaces_and_of_no_others() -> None:
    case = Case(random_graph(40, 160), "gcn", chunks=4, staleness=replace(NEWEST, history="clean"))
    stage = make_stage(case)
    messages = Messages(stage.place, CPU, Links())
    tables = [layer.rows.table for layer in stage.layers if layer.rows is not None]
    refresh(stage, messages, 1)
    first = [table.error.tolist() for table in tables]
    assert all(off == pytest.approx(length) and length > 0 for off, length in first)  # from rows of 0
    refresh(stage, messages, 2)
    second = [table.error.tolist() for table in tables]
    assert second == [[0.0, length] for _, length in first]
