"""What ``gnnpipe profile`` makes of measured times."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from gnnpipe.config.commands import ProfileConfig
from gnnpipe.config.run import SyntheticConfig
from gnnpipe.errors import DataError, PlanError
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.prepare.prepared import prepare
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.planner.hardware import SHIPPED, load_hardware
from gnnpipe.planner.measure import (
    Sample,
    contention,
    crowding,
    fit,
    layers_beyond_cache,
    measure_layer,
    with_fewer_edges,
)
from gnnpipe.planner.memory.peak import PROCESS_BYTES
from gnnpipe.planner.profile import check_memory


def samples(noise: float = 0.0) -> list[Sample]:
    """By known rates: 1 ps a number gathered, 0.1 ps a product, kinds that differ in the rest."""
    found = []
    signs = [1, -1, -1, 1, 1, 1, -1, -1]
    for kind, start, entry in (("gcn", 1e-4, 1e-9), ("sage", 2e-4, 3e-9)):
        for rows, chunks in ((100.0, 64), (1000.0, 8), (3000.0, 4), (10_000.0, 1)):
            for degree in (2, 20):
                for width in (32, 128):
                    edges, weights = rows * degree, width * width
                    both = edges * width * 1e-12 + rows * weights * 1e-13
                    entry_here = entry / 2 if chunks == 1 else entry  # one chunk needs fewer tables
                    off = 1 + noise * signs[len(found) % len(signs)]
                    found.append(
                        Sample(
                            kind,  # type: ignore[arg-type]
                            width,
                            chunks,
                            rows,
                            edges,
                            weights,
                            off * (both + start + rows * width * entry_here),
                            off * (both + start / 2 + rows * width * entry_here * 2),
                            off * rows * weights * 1e-13,
                        )
                    )
    return found


def test_fit_finds_the_rates_that_made_the_times() -> None:
    rates, off = fit(samples())
    assert off < 1e-6
    assert rates.gather == pytest.approx(1e-12, rel=1e-3)
    assert rates.multiply == pytest.approx(1e-13, rel=1e-3)
    sage = rates.kinds["sage"]
    assert (sage.start, sage.entry) == (pytest.approx(2e-4, rel=1e-3), pytest.approx(3e-9, rel=1e-3))
    assert (sage.start_back, sage.entry_back) == (
        pytest.approx(1e-4, rel=1e-3),
        pytest.approx(6e-9, rel=1e-3),
    )
    assert (sage.entry_whole, sage.entry_back_whole) == (
        pytest.approx(1.5e-9, rel=1e-3),
        pytest.approx(3e-9, rel=1e-3),
    )
    assert rates.kinds["dense"] == rates.kinds["gcn"]


def test_noise_shows_as_distance() -> None:
    rates, off = fit(samples(0.1))
    assert 0.05 < off < 0.12
    assert rates.kinds["gcn"].start == pytest.approx(1e-4, rel=0.3)


def test_contention_is_the_median_ratio() -> None:
    alone = samples()
    busy = [replace(item, forward=1.3 * item.forward, backward=1.3 * item.backward) for item in alone]
    assert contention(alone, busy) == pytest.approx(1.3)
    assert contention(alone, []) == 1.0


def test_crowding_is_what_turns_do_not_explain() -> None:
    busy = samples()
    crowded = [replace(item, forward=2.4 * item.forward, backward=2.4 * item.backward) for item in busy]
    assert crowding(busy, crowded, 2.0) == pytest.approx(1.2)
    assert crowding(busy, busy, 2.0) == 1.0
    assert crowding(busy, [], 1.0) == 1.0


@pytest.mark.parametrize("kind", ["gcn", "sage", "gcnii", "resgcn"])
def test_a_layer_is_measured_as_an_epoch_runs_it(kind: str) -> None:
    data = planted_partition(SyntheticConfig(num_nodes=3000))
    graph = prepare(data, CutSpec(1, 3, 16.0), "mean" if kind == "sage" else "gcn")
    thin = with_fewer_edges(graph, 0.25)
    assert thin.matrix.num_entries == pytest.approx(0.25 * graph.matrix.num_entries, rel=0.1)
    for given in (graph, thin):
        sample = measure_layer(given, kind, 16, torch.device("cpu"))  # type: ignore[arg-type]
        assert min(sample.forward, sample.backward, sample.products) > 0
        assert sample.rows == 1000
        assert sample.edges == pytest.approx(given.matrix.num_entries / 3)


@pytest.mark.parametrize(("nodes", "width", "layers"), [(1000, 16, 12), (10**6, 64, 3), (10**7, 64, 1)])
def test_large_graphs_are_measured_with_fewer_layers(nodes: int, width: int, layers: int) -> None:
    assert layers_beyond_cache(nodes, width) == layers


def test_a_graph_that_is_too_large_to_measure_with(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ProfileConfig(models=("gcnii",), hidden=(64,))
    data = planted_partition(SyntheticConfig(num_nodes=1000))
    rows = 12 * 2 * 1000 * 64 * 4  # of twelve layers, kept and in tables

    def check(free: int, ranks: int) -> None:
        monkeypatch.setattr("gnnpipe.planner.profile.free_memory_bytes", lambda _: free)
        check_memory(data, config, ranks, torch.device("cpu"))

    enough = next(free for free in range(0, 2**33, 2**20) if _passes(check, free, 1))
    assert enough > PROCESS_BYTES + rows
    check(4 * enough, 4)
    with pytest.raises(DataError, match=r"dataset: .*\(1,000 nodes, .* edges\) and 4 ranks .* --hidden"):
        check(4 * enough - 2**23, 4)


def _passes(check: Callable[[int, int], None], *given: int) -> bool:
    try:
        check(*given)
    except DataError:
        return False
    return True


def test_hardware_survives_its_file(tmp_path: Path) -> None:
    for hardware in SHIPPED.values():
        hardware.save(tmp_path / "x.json")
        assert load_hardware(str(tmp_path / "x.json")) == hardware


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"name": 1}',
        json.dumps({"name": "x", "rates": {}}),
        "\x00",
        '{"rates": {"kinds": 3}}',
    ],
)
def test_files_that_are_no_profile(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(
        PlanError, match=r"hardware: '.*bad.json' is no profile .*make one with gnnpipe profile"
    ):
        load_hardware(str(path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hosts_per_machine", 0),
        ("hosts_per_machine", -1),
        ("name", 3),
        ("source", None),
        ("cores_per_host", 0),
    ],
)
def test_fields_that_would_fail_later(field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(asdict(SHIPPED["cpu-10g"]) | {field: value}))
    with pytest.raises(PlanError, match=r"hardware: '.*x.json' is no profile"):
        load_hardware(str(path))


def test_figures_that_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    SHIPPED["a100"].save(path)
    for bad in (-1, "fast", None, float("nan")):
        content = json.loads(path.read_text())
        content["rates"]["gather"] = bad
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(PlanError, match=r"gather: .* is no number|not a positive number"):
            load_hardware(str(tmp_path / "bad.json"))


def test_unknown_hardware() -> None:
    with pytest.raises(PlanError, match="hardware: 'a10' is not known; did you mean 'a100'"):
        load_hardware("a10")


def test_fit_tells_edges_of_kinds_that_do_not_pull() -> None:
    """A kind with edge work of its own, and products that are made three times on the way back."""
    pushed = []
    for item in samples():
        if item.kind == "sage":
            product, gathered = item.rows * item.weights * 1e-13, item.edges * item.width
            entries = item.rows * item.width * (1e-9 if item.num_chunks == 1 else 2e-9)
            forward = gathered * 5e-12 + product + 2e-4 + entries
            backward = gathered * 9e-12 + 3 * product + 3e-4 + entries
            changes = {"forward": forward, "backward": backward, "products": 0.0}
            item = replace(item, kind="push", linear=False, products_back=3, **changes)
        pushed.append(item)
    rates, off = fit(pushed)
    assert off < 1e-6
    assert rates.gather == pytest.approx(1e-12, rel=1e-3)
    assert rates.edge("push") == pytest.approx(5e-12, rel=1e-3)
    assert rates.edge_back("push") == pytest.approx(9e-12, rel=1e-3)
    assert rates.edge("gcn") == rates.gather
