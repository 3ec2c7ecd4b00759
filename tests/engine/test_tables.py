"""Tables of fewer bits: half the memory and half of what parts exchange, for eight bits of a number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gnnpipe.config.run import Model
from gnnpipe.graph.csr import Csr
from gnnpipe.ops.torch import TorchOps
from tests.engine.test_parts import assert_bytes_as_predicted, merged
from tests.graphs import random_graph
from tests.harness import Case, Outcome, descend, gradients, make_stage, run_ranks, train

MODELS: tuple[Model, ...] = ("gcn", "sage", "gcnii", "resgcn")
EPSILON = 2**-8  # of a bf16 number: eight bits


def test_product_of_short_rows_is_rounded_once_in_and_once_out() -> None:
    generator = torch.Generator().manual_seed(0)
    graph = random_graph(50, 400)
    matrix = Csr.from_scipy(graph.adjacency.to_scipy())
    table = torch.rand(50, 16, generator=generator)
    product = TorchOps().pull(matrix, table.bfloat16())
    assert product.dtype == torch.float32
    # everything is positive, so that relative errors don't add up: row, value, sum
    torch.testing.assert_close(product, TorchOps().pull(matrix, table), rtol=3 * EPSILON, atol=0)


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("model", MODELS)
def test_training_is_that_of_fp32_but_for_rounding(model: Model, chunks: int) -> None:
    case = Case(random_graph(60, 240), model, 4, chunks=chunks, dropout=0.5)
    ours, plain = train(case.with_(tables="bf16")), train(case)
    assert ours.losses != plain.losses
    # a dozen roundings of independent sign on the way to a loss
    assert ours.losses == pytest.approx(plain.losses, rel=12 * EPSILON)
    # four layers each way, each off by some EPSILON: an angle of 0.1 at most
    for name, gradient in plain.gradients[0].items():
        mine = ours.gradients[0][name]
        assert torch.cosine_similarity(mine.flatten(), gradient.flatten(), dim=0) > 0.995, name


def cases(parts: int) -> list[Case]:
    graph = random_graph(60, 240)
    return [
        Case(graph, model, 4, chunks=chunks, parts=parts, tables="bf16")
        for model in MODELS
        for chunks in (1, 3)
    ] + [
        Case(graph, "gcnii", 4, parts=parts, tables="bf16", halo="stale"),
        Case(graph, "gcnii", 4, chunks=3, parts=parts, tables="bf16", wire="bf16", initial="recompute"),
    ]


def train_cases(rank: int, num_ranks: int, parts: int) -> list[Outcome]:
    return [train(case, num_ranks // parts, rank) for case in cases(parts)]


@pytest.mark.slow
def test_stages_change_nothing_bit_for_bit(tmp_path: Path) -> None:
    by_rank = run_ranks(2, train_cases, 1, folder=tmp_path)
    for index, case in enumerate(cases(1)):
        if case.wire != "fp32":
            continue
        ours, alone = merged([found[index] for found in by_rank], 1), train(case)
        assert ours.losses == alone.losses
        for mine, theirs in zip(ours.gradients, alone.gradients, strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "parts"), [(1, 2), (2, 2)])
def test_parts_exchange_half_the_bytes(stages: int, parts: int, tmp_path: Path) -> None:
    by_rank = run_ranks(stages * parts, train_cases, parts, folder=tmp_path)
    for index, case in enumerate(cases(parts)):
        outcomes = [found[index] for found in by_rank]
        assert_bytes_as_predicted(case, stages, outcomes)
        plain = case.with_(tables="fp32")
        if case.chunks == 1 and case.halo == "exact":
            ours, reference = merged(outcomes, parts), train(plain.with_(parts=1))
            assert ours.losses == pytest.approx(reference.losses, rel=12 * EPSILON)


@pytest.mark.parametrize("lookahead", [0, 1])
@pytest.mark.parametrize("stages", [1, 2])
def test_what_is_made_again_is_what_was_there(stages: int, lookahead: int) -> None:
    """Bit for bit, and nothing is kept beside: rows of ResGCN+ are not."""
    for model in MODELS:
        case = Case(random_graph(60, 240), model, 4, chunks=3, lookahead=lookahead)
        again, kept = in_one_process(case.with_(recompute=True), stages), in_one_process(case, stages)
        assert again.losses == kept.losses
        for mine, theirs in zip(again.gradients, kept.gradients, strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def in_one_process(case: Case, num_stages: int) -> Outcome:
    """Stages that hand rows to each other; with lookahead chunks leave later than they come."""
    graph = case.graph()
    stages = [make_stage(case, num_stages, rank, graph) for rank in range(num_stages)]
    outcome = Outcome([], [], {}, None)
    order = list(range(case.chunks))
    schedule = case.plan(num_stages).schedule.stages
    forward, backward = ([[a for a in actions if a.kind == kind] for actions in schedule] for kind in "FB")
    for epoch in range(case.epochs):
        for stage in stages:
            stage.begin_epoch(epoch, order)
            stage.prepare()
        arrived: dict[int | None, Tensor | None] = {}
        loss = 0.0
        for stage, actions in zip(stages, forward, strict=True):
            left = {}
            for action in actions:
                left[action.leaves], part = stage.forward(action, arrived.get(action.enters))
                loss += 0.0 if part is None else float(part)
            arrived = left
        arrived = {}
        for stage, actions in reversed(list(zip(stages, backward, strict=True))):
            left = {}
            for action in actions:
                left[action.leaves] = stage.backward(action, arrived.get(action.enters))
                stage.add_products()
            arrived = left
        outcome.losses.append(loss)
        outcome.gradients.append({key: value for stage in stages for key, value in gradients(stage).items()})
        for stage in stages:
            descend(stage)
    return outcome


def test_recomputing_keeps_a_quarter_less_of_resgcn() -> None:
    case = Case(random_graph(60, 240), "resgcn", 8, chunks=3, hidden=16)
    kept = {again: kept_numbers(case.with_(recompute=again)) for again in (True, False)}
    # of input rows, aggregates and two moments, input rows go but for the first layer's
    assert kept[False] - kept[True] == 8 * 60 * 16


def kept_numbers(case: Case) -> int:
    """Distinct numbers that chunks keep beside the tables when all have come forward."""
    stage = make_stage(case)
    stage.begin_epoch(0, list(range(case.chunks)))
    stage.prepare()
    for action in case.plan(1).schedule.stages[0][: case.chunks]:
        stage.forward(action, None)
    tables = {
        layer.rows.table.rows.untyped_storage().data_ptr() for layer in stage.layers if layer.rows is not None
    }
    found = {}
    for kept in stage._passes.values():
        tiles = [tile for done in kept.layers for tile in done.tiles]
        rows = [item for tile in tiles for item in (*vars(tile).values(), *getattr(tile, "moments", ()))]
        first = [item for inputs in kept.forgetful.values() for item in inputs]
        for item in [*rows, *first]:
            if isinstance(item, torch.Tensor) and item.untyped_storage().data_ptr() not in tables:
                found[item.data_ptr()] = item.numel()
    return sum(found.values())


def test_inference_does_not_round() -> None:
    case = Case(random_graph(60, 240), "gcnii", 4, epochs=0)
    short, plain = train(case.with_(tables="bf16")), train(case)
    assert short.logits is not None
    assert plain.logits is not None
    assert torch.equal(short.logits, plain.logits)


def test_tables_take_half() -> None:
    case = Case(random_graph(60, 240), "gcnii", 4, chunks=3)
    sizes = {}
    for tables in ("fp32", "bf16"):
        stage = make_stage(case.with_(tables=tables))
        sizes[tables] = sum(
            layer.rows.table.rows.nbytes + layer.gradients.table.rows.nbytes
            for layer in stage.layers
            if layer.rows is not None and layer.gradients is not None
        )
    assert sizes["fp32"] == 2 * sizes["bf16"] > 0
