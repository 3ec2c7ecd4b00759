"""The sweep that fills tables, and stops at any layer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gnnpipe.comm.groups import Links, make_links
from gnnpipe.comm.stage_links import Messages
from gnnpipe.config.run import Initial, Model
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import refresh, sweep
from gnnpipe.graph.data import Graph
from gnnpipe.nn.models import build_stack
from tests.graphs import random_graph
from tests.harness import CPU, NEWEST, Case, make_stage, run_ranks
from tests.reference import dense_adjacency, model

MODELS: tuple[Model, ...] = ("gcn", "sage", "gcnii", "resgcn")


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


def case_of(name: Model, data: Graph) -> Case:
    initial: Initial = "recompute" if name == "gcnii" else "relay"
    return Case(data, name, chunks=3, parts=2, epochs=0, initial=initial)


def rows_of_all_layers(rank: int, num_ranks: int, data: Graph) -> dict[tuple[str, int], list[Tensor]]:
    """Ids and rows of this rank, by model and number of the layer; 2 stages x 2 parts."""
    found = {}
    links = make_links(CPU, 2, 2, timedelta(seconds=60))
    for name in MODELS:
        case = case_of(name, data)
        stage = make_stage(case, 2, rank, links=links, trains=False)
        messages = Messages(stage.place, CPU, links)
        for number in range(len(build_stack(case.spec))):
            pieces = [(chunk.node_id, rows) for chunk, rows in sweep(stage, messages, until=number)]
            if pieces:
                found[name, number] = [torch.cat(part) for part in zip(*pieces, strict=True)]
    return found


@pytest.mark.slow
def test_a_sweep_stops_at_any_layer(tmp_path: Path) -> None:
    """On the stage that has the layer, whichever that is."""
    data = random_graph(40, 160)
    assert isinstance(data.features, Tensor)
    by_rank = run_ranks(4, rows_of_all_layers, data, folder=tmp_path)
    for name in MODELS:
        case, hidden = case_of(name, data), list[Tensor]()
        weights = {
            f"{layer.name}.{key}": weight
            for layer in build_stack(case.spec)
            for key, weight in layer().state_dict().items()
        }
        logits = model(case, weights, dense_adjacency(data, name), data.features, None, hidden)
        for number, expected in enumerate([*hidden, logits]):
            parts = [found[name, number] for found in by_rank if (name, number) in found]
            assert len(parts) == 2  # of one stage
            ids, rows = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
            torch.testing.assert_close(rows[ids.argsort()], expected)


def memory_of(stage: Stage) -> int:
    """Bytes of the tables of a stage."""
    tables = [table for layer in stage.held_layers for table in (layer.rows, layer.gradients) if table]
    return sum(table.table.rows.nbytes for table in tables if table.table.rows.device == CPU)


@pytest.mark.parametrize("name", MODELS)
def test_a_stage_that_does_not_train_sweeps_the_same_without_tables(name: Model) -> None:
    case = Case(random_graph(40, 160), name, chunks=3)
    rows = []
    for trains in (True, False):
        stage = make_stage(case, trains=trains)
        assert (memory_of(stage) > 0) == trains
        messages = Messages(stage.place, CPU, Links())
        rows.append(torch.cat([logits for _, logits in sweep(stage, messages)]))
    assert torch.equal(*rows)
