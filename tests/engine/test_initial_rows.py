"""Which of the three ways a model and a plan take, and what a stage then holds."""

from __future__ import annotations

import pytest

from gnnpipe.config.run import Initial, Model
from gnnpipe.engine.initial_rows import InitialRows, Recomputed, Relayed, initial_rows_of
from tests.graphs import random_graph
from tests.harness import Case, make_stage


@pytest.mark.parametrize(
    ("model", "initial", "stages", "expected"),
    [
        ("gcn", "relay", 2, InitialRows),
        ("resgcn", "recompute", 2, InitialRows),
        ("gcnii", "relay", 2, Relayed),
        ("gcnii", "recompute", 2, Recomputed),
        ("gcnii", "recompute", 1, Relayed),  # nothing crosses a boundary
    ],
)
def test_way(model: Model, initial: Initial, stages: int, expected: type[InitialRows]) -> None:
    case = Case(random_graph(30, 60), model, initial=initial)
    assert initial_rows_of(case.spec, case.plan(stages)) is expected
    stage = make_stage(case, stages)
    assert type(stage.initial) is expected
    assert stage.shape(0)[0] == (2 if expected is Relayed else 1)


def test_every_stage_holds_the_input_layer_where_it_recomputes() -> None:
    case = Case(random_graph(30, 60), "gcnii", initial="recompute")
    first, second = (make_stage(case, 2, rank) for rank in (0, 1))
    assert [layer.spec.name for layer in first.initial.shared] == ["input"]
    assert [layer.spec.name for layer in second.initial.shared] == ["input"]
    assert first.initial.shared[0] is first.layers[0]
    assert not first.initial.beside
    assert [layer.spec.name for layer in second.held_layers][:2] == ["input", "layers.2"]
    assert second.chunks[0].features


def test_relayed_rows_are_held_by_nobody_else() -> None:
    second = make_stage(Case(random_graph(30, 60), "gcnii"), 2, 1)
    assert not second.initial.shared
    assert second.held_layers == second.layers
    assert not second.chunks[0].features
