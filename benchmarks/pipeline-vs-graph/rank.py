"""One rank of the benchmark, on a host of its own; run.py starts it.

All plans of a model and depth are built at once and take turns of a few epochs: A B C A B C. A stale halo
travels from one epoch to the next, so that the epochs of a turn must follow each other.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.namespaces import limit_rate
from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links, make_links
from gnnpipe.comm.place import Place
from gnnpipe.comm.stage_links import Messages
from gnnpipe.comm.world import keep_freed_memory
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import GcniiConfig
from gnnpipe.engine.engine import Engine
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.nn.models import ModelSpec
from gnnpipe.schedule.plan import make_plan
from gnnpipe.schedule.staleness import chunk_orders
from gnnpipe.schedule.timeline import RankTimeline, breakdowns

plans = importlib.import_module("benchmarks.pipeline-vs-graph.plans")

CPU = torch.device("cpu")
LIMIT = timedelta(seconds=600)
EPOCHS = 3
# bounds of the search for rates, in Mbit/s
SLOWEST, FASTEST, STEPS = 2.0, 50_000.0, 9


class Runner:
    """One plan of a model, ready to run; `epoch` runs one epoch and returns its time and breakdown."""

    def __init__(self, spec: ModelSpec, who: Any, graph: PreparedGraph, links: Links, rank: int) -> None:
        staleness = StalenessSettings()
        plan = make_plan(who.stages, who.parts, who.chunks, spec.layers, graph.facts.num_nodes)
        self._stage = Stage(
            Place.of_rank(rank, who.stages, who.parts),
            plan,
            spec,
            graph,
            TableSettings.of(staleness, plan, who.halo),
            DropoutSettings(0.5, 0, staleness.dropout_hold),
            CPU,
            links,
        )
        self._links, self._schedule = links, plan.schedule
        self._messages = Messages(self._stage.place, CPU, links)
        self._clock = Clock(CPU)
        actions = plan.schedule.stages[self._stage.place.stage]
        self._engine = Engine(self._stage, actions, self._messages, self._clock)
        self._messages.connect()
        self._orders = chunk_orders("shuffled", who.chunks, 0)
        self._epoch = 0

    def epoch(self) -> dict[str, Any]:
        """Seconds, mean breakdown of the ranks, and bytes by kind."""
        dist.barrier()
        began = self._clock.now()
        result = self._engine.run_epoch(self._epoch, next(self._orders)).result
        self._stage.modules.zero_grad(set_to_none=True)
        self._epoch += 1
        mine = (
            began,
            self._clock.now(),
            RankTimeline(result.spans, result.finished),
            self._links.take_bytes(),
        )
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, mine)
        seconds = max(ended for _, ended, _, _ in found) - min(start for start, _, _, _ in found)
        ranks = breakdowns([timeline for _, _, timeline, _ in found], self._schedule, seconds)
        kinds = {kind for _, _, _, sent in found for kind in sent}
        return {
            "seconds": seconds,
            "breakdown": {
                name: statistics.mean(getattr(rank, name) for rank in ranks) for name in vars(ranks[0])
            },
            "bytes": {kind: sum(sent.get(kind, 0) for _, _, _, sent in found) for kind in sorted(kinds)},
        }

    def settle(self) -> None:
        """Wait for stale boundary rows that are still under way, before another plan takes its turn."""
        self._stage.settle()


@dataclass
class Bench:
    """State that lasts over all cells."""

    rank: int
    ranks: int
    data: Graph
    links: dict[tuple[int, int], Links]
    graphs: dict[tuple[int, int, int, str], PreparedGraph]

    def runners(self, model: str, layers: int) -> dict[str, Runner]:
        spec = ModelSpec(
            model,  # type: ignore[arg-type]
            layers,
            plans.HIDDEN,
            self.data.num_features,
            self.data.num_classes,
            False,
            0,
            GcniiConfig(),
        )
        return {
            who.name: Runner(spec, who, self._graph(who, spec), self.links[who.stages, who.parts], self.rank)
            for who in plans.contenders(self.ranks)
        }

    def _graph(self, who: Any, spec: ModelSpec) -> PreparedGraph:
        key = (who.stages, who.parts, who.chunks, spec.normalization)
        if key not in self.graphs:
            cut = CutSpec(who.parts, who.chunks, float(plans.HIDDEN))
            self.graphs[key] = prepare(self.data, cut, spec.normalization)
        return self.graphs[key]


def measure(runners: dict[str, Runner], rounds: int) -> dict[str, Any]:
    """Medians over ``rounds`` turns of `EPOCHS` epochs, the first of each turn not counted."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            found[name] += [runner.epoch() for _ in range(EPOCHS)][1:]
            runner.settle()
            dist.barrier()
    return {name: _median(epochs) for name, epochs in found.items()}


def _median(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "seconds": statistics.median(epoch["seconds"] for epoch in epochs),
        "all_seconds": [round(epoch["seconds"], 4) for epoch in epochs],
        "breakdown": {
            name: statistics.median(epoch["breakdown"][name] for epoch in epochs)
            for name in epochs[0]["breakdown"]
        },
        "bytes": epochs[-1]["bytes"],
    }


def waiting(epoch: dict[str, Any]) -> float:
    """Seconds that a rank waits for the other parts of its stage. Over a slow link their messages arrive at
    different times, so that waiting for a late part is the link's doing too."""
    return epoch["breakdown"]["communication_graph"] + epoch["breakdown"]["imbalance"]


def find_rates(bench: Bench) -> dict[str, float]:
    """Rates at which graph parallelism communicates for `plans.SHARES` of its epoch; equal on all ranks."""
    graph = bench.runners(*plans.CALIBRATED_ON)["graph"]
    rates = {}
    for share in plans.SHARES:
        slow, fast = SLOWEST, FASTEST
        for _ in range(STEPS):
            rate = (slow * fast) ** 0.5
            limit_rate(rate)
            graph.epoch()
            epochs = [graph.epoch() for _ in range(3)]
            found = statistics.median(waiting(epoch) / epoch["seconds"] for epoch in epochs)
            slow, fast = (rate, fast) if found > share else (slow, rate)
        rates[str(share)] = round((slow * fast) ** 0.5, 1)
    return rates


def main(folder: Path, ranks: int, rank: int, rounds: int) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    store = dist.FileStore(str(folder / f"store-{ranks}"), ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=LIMIT)
    shapes = sorted({(who.stages, who.parts) for who in plans.contenders(ranks)})
    links = {shape: make_links(CPU, *shape, LIMIT) for shape in shapes}
    bench = Bench(rank, ranks, planted_partition(plans.GRAPH), links, {})
    path = folder / f"rates-{ranks}.json"
    known = json.loads(path.read_text()) if path.exists() else None
    dist.barrier()
    rates = known or find_rates(bench)
    dist.barrier()
    if rank == 0:
        path.write_text(json.dumps(rates))
        print(f"{ranks} ranks: {rates} Mbit/s", flush=True)
    for model in plans.MODELS:
        for layers in plans.DEPTHS:
            cell = folder / f"cell-{ranks}-{model}-{layers}.json"
            done = cell.exists()
            dist.barrier()
            if done:
                continue
            limit_rate(None)
            runners = bench.runners(model, layers)
            result = {}
            for share, rate in rates.items():
                limit_rate(rate)
                result[share] = measure(runners, rounds)
            if rank == 0:
                cell.write_text(json.dumps(result))
                seconds = {
                    share: {name: round(item["seconds"], 3) for name, item in by_name.items()}
                    for share, by_name in result.items()
                }
                print(ranks, model, layers, seconds, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
