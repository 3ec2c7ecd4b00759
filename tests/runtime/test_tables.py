"""Tables of fewer bits: half the memory and half of what parts exchange, for eight bits of a number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gnnpipe.base.config import Model
from gnnpipe.graph.csr import Csr
from tests.graphs import random_graph
from tests.harness import Case, Outcome, make_stage, run_ranks, train
from tests.runtime.test_parts import assert_bytes_as_predicted, merged

MODELS: tuple[Model, ...] = ("gcn", "sage", "gcnii", "resgcn")
EPSILON = 2**-8  # of a bf16 number: eight bits


def test_product_of_short_rows_is_rounded_once_in_and_once_out() -> None:
    generator = torch.Generator().manual_seed(0)
    graph = random_graph(50, 400)
    matrix = Csr.from_scipy(graph.adjacency.to_scipy())
    table = torch.rand(50, 16, generator=generator)
    product = matrix @ table.bfloat16()
    assert product.dtype == torch.float32
    # everything is positive, so that relative errors don't add up: row, value, sum
    torch.testing.assert_close(product, matrix @ table, rtol=3 * EPSILON, atol=0)


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("model", MODELS)
def test_training_is_that_of_fp32_but_for_rounding(model: Model, chunks: int) -> None:
    case = Case(random_graph(60, 240), model, 4, chunks=chunks, dropout=0.5)
    ours, plain = train(case.with_(tables="bf16")), train(case)
    assert ours.losses != plain.losses
    # a dozen roundings of independent sign on the way to a loss
    assert ours.losses == pytest.approx(plain.losses, rel=12 * EPSILON)
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


def test_stages_change_nothing_bit_for_bit(tmp_path: Path) -> None:
    by_rank = run_ranks(2, train_cases, 1, folder=tmp_path)
    for index, case in enumerate(cases(1)):
        if case.wire != "fp32":
            continue
        ours, alone = merged([found[index] for found in by_rank], 1), train(case)
        assert ours.losses == alone.losses
        for mine, theirs in zip(ours.gradients, alone.gradients, strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


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
