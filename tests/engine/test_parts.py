"""Several parts: graph parallelism and the hybrid against one process (invariants 1, 3, 4, 5 and 8)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnpipe.comm.halo import HaloRoutes, Route, routes
from gnnpipe.comm.place import Place
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import HaloMode
from gnnpipe.engine.chunks import TileSizes, cut
from gnnpipe.graph.cut.halo import part_range
from gnnpipe.graph.data import Graph
from gnnpipe.planner.predictions import volume_of
from gnnpipe.schedule.volume import HaloRows
from tests.engine.test_exact import MODELS, assert_same_training
from tests.graphs import dense, random_graph
from tests.harness import CPU, Case, Outcome, run_ranks, train
from tests.reference import exact_epochs, stale_epochs

KINDS = {
    "communication_layer": "communication-layer",
    "communication_graph": "communication-graph",
    "weights": "weights",
}


def slow(case: tuple[int, int]) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


def merged(parts: list[Outcome], num_parts: int) -> Outcome:
    """What all ranks found together; parts of a stage must agree on every gradient, bit for bit."""
    epochs = range(len(parts[0].losses))
    gradients: list[dict[str, Tensor]] = [{} for _ in epochs]
    for rank, part in enumerate(parts):
        for epoch in epochs:
            for name, gradient in part.gradients[epoch].items():
                first = gradients[epoch].setdefault(name, gradient)
                assert torch.equal(first, gradient), (rank, name)
    losses = [sum(part.losses[epoch] for part in parts) for epoch in epochs]
    last = parts[-num_parts:]
    found = [(part.node_id, part.logits) for part in last]
    order = torch.argsort(torch.cat([ids for ids, _ in found if ids is not None]))
    logits = torch.cat([logits for _, logits in found if logits is not None])[order]
    return Outcome(losses, gradients, {}, logits)


def assert_same_logits(ours: Outcome, reference: Outcome) -> None:
    """Ten times the default float32 tolerances or so: the weights themselves come from sums in another order,
    through several steps."""
    assert reference.logits is not None
    torch.testing.assert_close(ours.logits, reference.logits, atol=1e-5, rtol=1e-4)


def assert_bytes_as_predicted(case: Case, stages: int, parts: list[Outcome]) -> None:
    """Invariant 4: to the byte, kind by kind."""
    facts = case.graph().facts
    halo = HaloRows(sum(facts.halo_forward), sum(facts.halo_backward))
    versions = case.table_settings.versions_sent
    volume = volume_of(case.plan(stages), case.spec, facts.num_nodes, halo, versions)
    for field, expected in asdict(volume).items():
        sent = sum(part.bytes_sent.get(KINDS[field], 0) for part in parts)
        assert sent == case.epochs * expected, (case, field)


def exact_cases(num_parts: int) -> list[Case]:
    """Every layer kind; directed and not; sparse features; nodes without edges; values to be predicted."""
    graphs = [
        random_graph(60, 200, num_features=24, sparse_features=True),
        random_graph(60, 150, undirected=True),
    ]
    cases = [Case(graph, model, layers=3, parts=num_parts) for graph in graphs for model in MODELS]
    return [*cases, Case(random_graph(60, 150, num_values=2), "gcnii", layers=3, parts=num_parts)]


def train_exact(rank: int, num_ranks: int, num_parts: int) -> list[Outcome]:
    return [train(case, num_ranks // num_parts, rank) for case in exact_cases(num_parts)]


@pytest.mark.parametrize(("stages", "parts"), [(1, 2), *map(slow, [(1, 3), (2, 2), (2, 3), (3, 2), (3, 3)])])
def test_parts_equal_full_graph_training(stages: int, parts: int, tmp_path: Path) -> None:
    """With one chunk nothing is stale: losses, every gradient, and inference are one process's."""
    by_rank = run_ranks(stages * parts, train_exact, parts, folder=tmp_path)
    for index, case in enumerate(exact_cases(parts)):
        outcomes = [found[index] for found in by_rank]
        reference = exact_epochs(case)
        ours = merged(outcomes, parts)
        assert_same_training(ours, reference)
        assert_same_logits(ours, reference)
        assert_bytes_as_predicted(case, stages, outcomes)


def stale_cases(num_parts: int) -> list[Case]:
    """Several chunks: what is stale is exactly what it would be with one part. And halos of last epoch."""
    directed = random_graph(60, 240)
    undirected = random_graph(60, 150, undirected=True)

    def setting(**changes: object) -> StalenessSettings:
        base = asdict(StalenessSettings("default", "shuffled", 1, "corrected", 0.7, "dropped", 2, 0, 0))
        return StalenessSettings(**(base | changes))  # type: ignore[arg-type]

    chunked = [
        Case(directed, "gcnii", 3, chunks=4, staleness=setting(gradient=gradient), epochs=4)
        for gradient in ("fresh", "reuse", "corrected")
    ]
    chunked += [Case(undirected, model, 3, chunks=3, staleness=setting(), epochs=4) for model in MODELS]
    chunked.append(
        Case(directed, "resgcn", 3, chunks=4, staleness=setting(freeze=2, history="clean"), epochs=5)
    )
    chunked.append(Case(directed, "sage", 3, chunks=4, staleness=setting(freeze=2), epochs=5))
    chunked.append(Case(directed, "gcnii", 3, chunks=4, staleness=setting(refresh=2), epochs=4))
    chunked.append(Case(directed, "resgcn", 3, chunks=4, staleness=setting(weight="fitted"), epochs=4))
    chunked += [
        Case(directed, "gcnii", 3, chunks=5, staleness=setting(gradient=gradient), lookahead=2)
        for gradient in ("fresh", "corrected")
    ]
    halo: HaloMode = "stale"
    chunked += [Case(directed, model, 3, halo=halo, epochs=4) for model in MODELS]
    chunked.append(Case(undirected, "gcnii", 3, chunks=3, staleness=setting(freeze=2), halo=halo, epochs=5))
    both = setting(refresh=2, weight="fitted", history="clean")
    chunked.append(Case(directed, "gcnii", 3, chunks=3, staleness=both, halo=halo, epochs=4))
    chunked.append(Case(directed, "resgcn", 3, chunks=4, staleness=setting(), halo=halo, lookahead=1))
    chunked.append(Case(directed, "sage", 3, chunks=4, staleness=both, epochs=4))
    # chunks that no other part reads
    chunked += [
        Case(path_graph(60), "gcnii", 2, chunks=5, staleness=changed, halo=mode, epochs=6)
        for changed in (setting(), setting(freeze=2), setting(gradient="fresh", history="clean"))
        for mode in ("stale", "exact")
    ]
    return [case.with_(parts=num_parts) for case in chunked]


def path_graph(num_nodes: int) -> Graph:
    """0 - 1 - 2 - ...: few chunks reach across parts."""
    nodes = torch.arange(num_nodes - 1)
    plain = random_graph(num_nodes, 0)
    masks = (plain.train_mask, plain.val_mask, plain.test_mask)
    edges = torch.stack([nodes, nodes + 1])
    return Graph.from_edge_index(edges, plain.features, plain.labels, masks, num_classes=3, undirected=True)


def test_some_chunks_of_a_path_are_read_by_no_other_part() -> None:
    graph = Case(path_graph(60), chunks=5, parts=2).graph()
    found = routes(graph.halo_forward, graph.ranges, 0)
    assert 0 < sum(route is not None for route in found) < 5


def train_stale(rank: int, num_ranks: int, num_parts: int) -> list[Outcome]:
    return [train(case, num_ranks // num_parts, rank) for case in stale_cases(num_parts)]


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "parts"), [(1, 2), (2, 2), (2, 3)])
def test_chunks_and_parts_equal_the_slow_reference(stages: int, parts: int, tmp_path: Path) -> None:
    by_rank = run_ranks(stages * parts, train_stale, parts, folder=tmp_path)
    for index, case in enumerate(stale_cases(parts)):
        outcomes = [found[index] for found in by_rank]
        ours, reference = merged(outcomes, parts), stale_epochs(case, case.graph())
        assert_same_training(ours, reference)
        assert_same_logits(ours, reference)
        assert_bytes_as_predicted(case, stages, outcomes)


@given(
    num_nodes=st.integers(4, 30),
    num_edges=st.integers(0, 90),
    seed=st.integers(0, 10**6),
    undirected=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60)
def test_every_edge_once_whatever_the_plan(
    num_nodes: int, num_edges: int, seed: int, undirected: bool, data: st.DataObject
) -> None:
    """Invariant 3; and what one part sends is what the others wait for."""
    parts = data.draw(st.integers(1, min(4, num_nodes)))
    chunks = data.draw(st.integers(1, num_nodes // parts))
    graph = random_graph(num_nodes, num_edges, seed=seed, undirected=undirected)
    case = Case(graph, "gcn", chunks=chunks, parts=parts)
    prepared = case.graph()
    A = dense(prepared.matrix)
    forward = [routes(prepared.halo_forward, prepared.ranges, part) for part in range(parts)]
    backward = [routes(prepared.halo_backward, prepared.ranges, part) for part in range(parts)]
    for part in range(parts):
        mine = part_range(prepared.ranges, part)
        place, sizes = Place.of_rank(part, 1, parts), TileSizes(1, data.draw(st.integers(1, 9)))
        chunk_data = cut(
            prepared, place, HaloRoutes(forward[part], backward[part]), CPU, sizes, features=True
        )
        for item in chunk_data:
            assert sum(tile.rows.stop - tile.rows.start for tile in item.tiles) == item.chunk.num_nodes
            for number, tile in enumerate(item.tiles):
                start = mine.start + item.chunk.start
                rows = slice(start + tile.rows.start, start + tile.rows.stop)
                for pull, matrix, halo in (
                    (tile.pull, A, prepared.halo_forward[part]),
                    (tile.pull_back, A.T, prepared.halo_backward[part]),
                ):
                    columns = torch.cat([torch.arange(mine.start, mine.stop), halo])
                    found = dense(pull.now)
                    if pull.later is not None:
                        assert not (found.bool() & dense(pull.later).bool()).any()
                        found += dense(pull.later)
                    expected = matrix[rows]
                    assert torch.equal(found, expected[:, columns])
                    assert torch.count_nonzero(found) == torch.count_nonzero(expected)
                assert number >= item.border or tile.pull.later is None
    for chunk in range(chunks):
        assert_one_exchange_fits([found[chunk] for found in forward])
        assert_one_exchange_fits([found[chunk] for found in backward])


def assert_one_exchange_fits(found: list[Route | None]) -> None:
    """All parts take part or none does, and splits match pair by pair."""
    there = [route for route in found if route is not None]
    assert len(there) in (0, len(found))
    for sender, route in enumerate(there):
        assert sum(route.send_splits) == route.send.numel()
        assert sum(route.arrive_splits) == route.arrive.num_nodes
        assert [other.arrive_splits[sender] for other in there] == route.send_splits
