"""Records, plans and summaries made by hand, for tests that need no training."""

from __future__ import annotations

from typing import Any

from gnnpipe.graph.prepare.prepared import GraphFacts
from gnnpipe.nn.metrics import ClassCounts, Classes, Scores
from gnnpipe.planner.predictions import Predictions
from gnnpipe.records.plan_file import Foreseen, PlanFile, StoredPlan
from gnnpipe.records.record import Best, EpochRecord, Summary
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.volume import Volume


def record(epoch: int = 0, *, val: float | None = None, **changes: Any) -> EpochRecord:
    """Record of an epoch that sent nothing, and that was evaluated if ``val`` is given."""
    scores = None if val is None else Scores(val, val, val / 2)
    values: dict[str, Any] = {
        "loss": 1.0, "lr": 0.01, "seconds": 1.0, "ranks": (), "bytes_sent": {}, "bytes_sent_by_rank": ({},),
    }  # fmt: skip
    return EpochRecord(epoch=epoch, **{**values, "scores": scores, **changes})


def plan(stages: int = 1, parts: int = 1, chunks: int = 1, **changes: Any) -> Plan:
    """Plan of six layers."""
    ranges = tuple((6 * stage // stages, 6 * (stage + 1) // stages) for stage in range(stages))
    return Plan(stages, parts, chunks, ranges, **changes)


def graph_facts(**changes: Any) -> GraphFacts:
    """Facts of a graph of 1000 nodes."""
    values: dict[str, Any] = {
        "name": "x", "num_nodes": 1000, "num_edges": 2000, "num_features": 3, "feature_entries": 3000,
        "num_classes": 2, "task": "multiclass", "part_method": "rcm", "chunk_method": "metis",
        "cut_fraction": 0.25, "part_imbalance": 1.3, "chunk_imbalance": 1.1, "part_nodes": [1000],
        "halo_forward": [200, 250], "halo_backward": [200, 250], "rival_halo": None, "notes": [],
    }  # fmt: skip
    return GraphFacts(**{**values, **changes})


def plan_file(of: Plan | None = None, *, fresh: float = 1.0, **changes: Any) -> PlanFile:
    """Content of plan.json for a plan, on a graph with ``changes`` to `graph_facts`."""
    predictions = Predictions(Volume(0, 0, 0), None, [0], [0], 0.2, fresh)
    return PlanFile(of or plan(), graph_facts(**changes), predictions, "accuracy")


def stored_plan(of: Plan | None = None, rival: float | None = None, **changes: Any) -> StoredPlan:
    """Stored plan, with the bytes that graph parallelism would send."""
    return StoredPlan(of or plan(), "accuracy", Foreseen(rival), **changes)


def classes(count: list[int], correct: list[int], predicted: list[int]) -> Classes:
    """Class counts, the same for both splits."""
    table = ClassCounts(tuple(count), tuple(correct), tuple(predicted))
    return Classes(table, table)


def summary(**changes: Any) -> Summary:
    """Summary of ten epochs."""
    values: dict[str, Any] = {
        "metric": "accuracy", "best": Best(0.5, 0.25, 4, None), "epochs": 10, "median_epoch_seconds": 1.5,
        "bytes_per_epoch": {"communication-layer": 2048}, "bytes_per_epoch_by_rank": (),
        "peak_memory_bytes": (3 * 2**30, 2**30), "versions": {}, "hardware": {},
    }  # fmt: skip
    return Summary(**{**values, **changes})
