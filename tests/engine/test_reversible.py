"""Reversible blocks: gradients of full-graph training though nothing is kept of the forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gnnpipe.config.run import Model
from gnnpipe.nn.layers.resgcn import ResGcnLayer
from gnnpipe.nn.layers.wrappers.coupling import Coupling
from gnnpipe.nn.models import Options
from gnnpipe.nn.runners import runner_of
from tests.engine.test_exact import assert_same_training
from tests.engine.test_options import assert_same, of_pyg
from tests.engine.test_parts import assert_bytes_as_predicted, assert_same_logits, merged, slow
from tests.engine.test_pyg import graph_of, many_edges
from tests.engine.test_staleness import setting
from tests.graphs import random_graph
from tests.harness import Case, Outcome, make_stage, run_ranks, train
from tests.reference import exact_epochs

MODELS: list[Model] = ["resgcn", "gen"]
# No row is without features after dropout: a norm of zeros has a ReLU at its kink behind it, and rows that
# are made again may lie on either side of it.
DATA = random_graph(60, 200, num_features=24)


def reversible(model: Model = "resgcn", groups: int = 2, **changes: object) -> Case:
    case = Case(DATA, model, layers=2 * groups, hidden=8 * groups, options=Options(groups=groups))
    return case.with_(**changes)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("groups", [2, 3])
def test_equals_torch_geometric(model: Model, groups: int) -> None:
    """Its `GroupAddRev`, which keeps activations here."""
    edges = many_edges(60, undirected=False)
    case = reversible(model, groups, data=graph_of(edges, 60), dropout=0.0, epochs=2)
    assert_same(train(case), of_pyg(case, edges))


@pytest.mark.parametrize("groups", [2, 3])
def test_equals_autograd_with_dropout(groups: int) -> None:
    case = reversible(groups=groups)
    assert_same_training(train(case), exact_epochs(case))


@pytest.mark.parametrize("model", MODELS)
def test_plans_without_stale_rows_are_the_same_training(model: Model) -> None:
    """One chunk makes rows again; several keep what they saved, or make some of it again, chunk by chunk."""
    one = train(reversible(model))
    line = {"chunks": 3, "lookahead": 2, "exact": True}
    for plan in (line, line | {"recompute": True}):
        assert_same_training(train(reversible(model, **plan)), one, slack=5.0)


def test_recomputation_changes_no_bit() -> None:
    stale = reversible(chunks=4, staleness=setting(), epochs=4)
    kept, again = train(stale), train(stale.with_(recompute=True))
    assert kept.losses == again.losses
    for mine, theirs in zip(kept.gradients, again.gradients, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def train_ranks(rank: int, num_ranks: int, parts: int) -> list[Outcome]:
    return [train(reversible(model, parts=parts), num_ranks // parts, rank) for model in MODELS]


@pytest.mark.parametrize(("stages", "parts"), [(1, 2), slow((2, 1)), slow((2, 2)), slow((3, 1))])
def test_stages_and_parts_equal_one_process(stages: int, parts: int, tmp_path: Path) -> None:
    """Rows of other parts travel once more on the way back: bytes are those of the formula."""
    by_rank = run_ranks(stages * parts, train_ranks, parts, folder=tmp_path)
    for index, model in enumerate(MODELS):
        case, outcomes = reversible(model, parts=parts), [found[index] for found in by_rank]
        ours, one = merged(outcomes, parts), train(reversible(model))
        # not bit for bit: each stage begins with the exact rows that it has sent
        assert_same_training(ours, one, slack=5.0)
        assert one.logits is not None
        assert_same_logits(ours, one)
        assert_bytes_as_predicted(case, stages, outcomes)


def held_after_forward(layers: int, groups: int) -> int:
    """Bytes of all that a stage holds of a chunk between its way forward and its way back."""
    case = reversible(layers=layers, options=Options(groups=groups), hidden=16, epochs=1)
    stage = make_stage(case)
    stage.begin_epoch(0, [0])
    stage.prepare()
    schedule = case.plan(1).schedule.stages[0]
    stage.forward(schedule[0], None)
    found: dict[int, int] = {}
    seen: list[object] = [stage.kept_of(0), [layer.kept_tensors() for layer in stage.layers]]
    while seen:
        item = seen.pop()
        if isinstance(item, Tensor):
            found[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        elif isinstance(item, dict):
            seen += item.values()
        elif isinstance(item, list | tuple):
            seen += item
        elif hasattr(item, "__dict__") and not isinstance(item, torch.nn.Module):
            seen += vars(item).values()
    return sum(found.values())


def test_what_is_kept_does_not_grow_with_layers() -> None:
    # a layer's key of the dropout masks, 8 bytes, is all
    assert held_after_forward(40, 2) - held_after_forward(4, 2) == 36 * 8
    # as other blocks do
    assert held_after_forward(40, 1) > 5 * held_after_forward(4, 1)


@pytest.mark.parametrize("layers", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_rounding_stays_small_through_many_layers(layers: int) -> None:
    """Gradients from rows that were made again, against those from rows that were kept."""
    case = reversible(layers=layers, dropout=0.1, epochs=1)
    again = train(case).gradients[0]
    kept = train(case.with_(chunks=2, lookahead=1, exact=True)).gradients[0]
    for name, gradient in kept.items():
        # each layer rounds once more, at 2^-24 of the row; norms pass errors on
        assert float((again[name] - gradient).norm()) < 1e-6 * layers * float(gradient.norm()) + 1e-9, name


def test_the_runner_is_written_out() -> None:
    """Not autograd's, which would be slower and keep more."""
    layer = Coupling(ResGcnLayer(8, None, "layer", "none"), 1, 2)
    assert type(runner_of(layer, "any").inner).__name__ == "ResGcnRunner"
