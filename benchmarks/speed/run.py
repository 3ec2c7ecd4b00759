"""Speed of one device against torch_geometric and the machine's limit; speed of two stages; bytes sent.

python -m benchmarks.speed.run --work FOLDER [--only SECTION ...] [--rounds 2]

Every figure is a median; the sides of a comparison take turns (A B A B) in one run. README.md beside this
file has results.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import common, namespaces
from gnnpipe.comm.world import keep_freed_memory
from gnnpipe.config.run import GcniiConfig
from gnnpipe.nn.models import ModelSpec
from gnnpipe.planner.predictions import volume_of
from gnnpipe.schedule.plan import make_plan
from gnnpipe.schedule.volume import HaloRows

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.speed.run --work FOLDER"
NODES, HIDDEN, LAYERS, THREADS = 100_000, 128, 32, 2
GRAPH = ["--synthetic.num_nodes", str(NODES), "--synthetic.num_features", str(HIDDEN)]
QUIET = ["--eval-every", "1000", "--hidden", str(HIDDEN)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--rounds", type=int, default=2, help="times that A B is run")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a run; the first is not counted")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument(
        "--models", nargs="+", default=["gcnii", "gcn", "sage"], help="models of the comparison with PyG"
    )
    parser.add_argument("--chunks", nargs="+", type=int, default=[8, 16, 32], help="of the two stages")
    parser.add_argument("--edges", nargs="+", type=int, default=[10**6, 10**7, 5 * 10**7])
    parser.add_argument("--growth", nargs="+", choices=GROWTH, default=list(GROWTH), help="of scaling")
    parser.add_argument(
        "--megabits",
        nargs="+",
        type=float,
        default=[1000.0, 300.0, 200.0],
        help="Mbit/s of the exposed section",
    )
    parser.add_argument(
        "--published", type=Path, help="folder with gnnpipe_a5000.csv, for the volume of its cells"
    )
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        found = SECTIONS[name](options)
        if found is not None:
            result.setdefault(name, {}).update(common.rounded(found))
    runs = sorted(options.work.glob("*/summary.json"))
    if runs:
        result["environment"] = common.environment(runs[-1].parent, COMMAND)
    common.write(options.out, result)


def single(options: argparse.Namespace) -> dict[str, Any]:
    """Epochs of ours and of torch_geometric's on the same graph, two threads each."""
    result = {}
    # short epochs settle later, and more of them are affordable
    for model, layers, epochs in (
        ("gcnii", LAYERS, options.epochs),
        ("gcn", 3, 3 * options.epochs),
        ("sage", 3, 3 * options.epochs),
    ):
        if model not in options.models:
            continue
        seconds: dict[str, list[float]] = {"pyg": [], "ours": []}
        for round_ in range(options.rounds):
            seconds["pyg"] += pyg(model, layers, epochs)
            run = options.work / f"single-{model}-{round_}"
            flags = ["--model", model, "--layers", str(layers), "--threads", str(THREADS)]
            common.train(run, *GRAPH, *QUIET, *flags, "--epochs", str(epochs))
            seconds["ours"] += common.epoch_seconds(run)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        result[model] = {
            "epoch_seconds": seconds,
            "median": medians,
            "pyg_over_ours": medians["pyg"] / medians["ours"],
        }
    return result


RACERS: dict[str, tuple[str, list[str]]] = {
    "torch_geometric as documented": ("pyg", []),
    "torch_geometric, our order": ("pyg", ["--local"]),
    "torch_geometric, our order, cheap mask": ("pyg", ["--local", "--cheap"]),
    "PyTorch by hand": ("rival", []),
    "PyTorch by hand, oneDNN": ("rival", ["--products", "onednn"]),
    "PyTorch by hand, bf16": ("rival", ["--bf16"]),
    "ours": ("ours", []),
    "ours, bf16 tables": ("ours", ["--tables", "bf16"]),
}
"""Program and flags of each."""


def race(options: argparse.Namespace) -> dict[str, Any]:
    """Epochs of ours, of torch_geometric's and of plain PyTorch's in the forms that make it fastest."""
    result: dict[str, Any] = {}
    for model in options.models:
        layers = LAYERS if model == "gcnii" else 3
        epochs = options.epochs if model == "gcnii" else 3 * options.epochs
        seconds: dict[str, list[float]] = {name: [] for name in RACERS}
        for round_ in range(options.rounds):
            for name, (program, flags) in RACERS.items():
                if program != "ours":
                    seconds[name] += other(program, model, layers, epochs, *flags)
                    continue
                run = options.work / f"race-{model}-{round_}-{'-'.join(flags)}"
                shape = ["--model", model, "--layers", str(layers), "--threads", str(THREADS)]
                common.train(run, *GRAPH, *QUIET, *shape, *flags, "--epochs", str(epochs))
                seconds[name] += common.epoch_seconds(run)
        medians = {name: statistics.median(found) for name, found in seconds.items()}
        result[model] = {"epoch_seconds": seconds, "median": medians, "ratios": ratios(medians)}
    return result


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """How many times as long others take: in fp32, in whatever format is fastest, and as documented."""
    fp32 = min(medians["PyTorch by hand"], medians["PyTorch by hand, oneDNN"])
    ours = min(medians["ours"], medians["ours, bf16 tables"])
    return {
        "by hand / ours, fp32": fp32 / medians["ours"],
        "by hand / ours, best formats": min(fp32, medians["PyTorch by hand, bf16"]) / ours,
        "torch_geometric as documented / ours, best format": medians["torch_geometric as documented"] / ours,
    }


def pyg(model: str, layers: int, epochs: int) -> list[float]:
    return other("pyg", model, layers, epochs)


def other(program: str, model: str, layers: int, epochs: int, *flags: str) -> list[float]:
    """Seconds of all epochs but the first of a program beside this one."""
    command = [
        sys.executable, "-m", f"benchmarks.speed.{program}", "--model", model, "--layers", str(layers),
        "--hidden", str(HIDDEN), "--num-nodes", str(NODES), "--threads", str(THREADS),
        "--epochs", str(epochs), *flags,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def limit(options: argparse.Namespace) -> dict[str, Any]:
    """The limit that memory and arithmetic set to an epoch of GCNII, and the share of it that ours reaches.

    Bytes are counted twice: once as if a row that several edges read were fetched once (the least that any
    program must move), once as if each edge fetched it from memory (what happens without a cache).
    """
    keep_freed_memory()
    torch.set_num_threads(THREADS)
    rows, weight = torch.randn(NODES, HIDDEN), torch.randn(HIDDEN, HIDDEN)
    out = torch.empty_like(rows)
    copy_rate = 2 * rows.nbytes / seconds_of(lambda: out.copy_(rows))
    tile, tile_out = rows[:4096], out[:4096]
    gemm_rate = 2 * tile.numel() * HIDDEN / seconds_of(lambda: torch.mm(tile, weight, out=tile_out))
    run = options.work / "limit"
    flags = ["--model", "gcnii", "--layers", str(LAYERS), "--threads", str(THREADS)]
    common.train(run, *GRAPH, *QUIET, *flags, "--epochs", str(options.epochs))
    epoch = statistics.median(common.epoch_seconds(run))
    edges = json.loads((run / "plan.json").read_text())["graph"]["num_edges"] + NODES
    array, index = rows.nbytes, 8 * edges
    # forward: h, x written, x, h0, s and out written; backward: gradient, out, s, D written, h0's gradient
    # read and written, D, x, gradient written
    least = LAYERS * ((6 + 9) * array + 2 * index)
    each_edge = least + LAYERS * 2 * (4 * HIDDEN * edges - array)
    flops = LAYERS * 3 * 2 * NODES * HIDDEN**2
    arithmetic = flops / gemm_rate
    return {
        "copy_bytes_per_second": copy_rate,
        "gemm_flops_per_second": gemm_rate,
        "epoch_seconds": epoch,
        "gemm_seconds": arithmetic,
        "least_bytes": least,
        "bytes_if_each_edge_reads_memory": each_edge,
        "share_of_limit": (least / copy_rate + arithmetic) / epoch,
        "share_of_limit_if_each_edge_reads_memory": (each_edge / copy_rate + arithmetic) / epoch,
    }


def seconds_of(work: Callable[[], object], times: int = 15) -> float:
    """Median seconds of ``work``."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def stages(options: argparse.Namespace) -> dict[str, Any]:
    """Two ranks against two independent ones with half of the layers each; one thread a rank."""
    common_flags = [
        *GRAPH, *QUIET, "--model", "gcnii", "--threads", "1", "--epochs", str(options.epochs),
    ]  # fmt: skip
    whole = [*common_flags, "--layers", str(LAYERS), "--stages", "2"]
    half = [*common_flags, "--layers", str(LAYERS // 2)]
    result: dict[str, Any] = {}
    for chunks in options.chunks:
        seconds: dict[str, list[float]] = {"pipeline": [], "independent": []}
        breakdown: list[dict[str, float]] = []
        for round_ in range(options.rounds):
            number = ["--chunks", str(chunks)]
            run = common.train(options.work / f"stages-{chunks}-{round_}", *whole, *number)
            seconds["pipeline"] += common.epoch_seconds(run)
            breakdown += shares(run)
            runs = [options.work / f"half-{chunks}-{round_}-{name}" for name in "ab"]
            for process in [common.start(run, *half, *number) for run in runs]:
                common.finish(process)
            both = zip(*(common.epoch_seconds(run) for run in runs), strict=True)
            seconds["independent"] += [max(pair) for pair in both]
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        result[str(chunks)] = {
            "epoch_seconds": seconds,
            "median": medians,
            "independent_over_pipeline": medians["independent"] / medians["pipeline"],
            "shares": {kind: statistics.median(item[kind] for item in breakdown) for kind in breakdown[0]},
        }
    result["best"] = max(entry["independent_over_pipeline"] for entry in result.values())
    return result


def shares(run: Path) -> list[dict[str, float]]:
    """Breakdown of every epoch but the first, as shares of the epoch, mean over ranks."""
    found = []
    for line in (run / "records.jsonl").read_text().splitlines()[1:]:
        record = json.loads(line)
        ranks = record["ranks"]
        found.append(
            {kind: sum(rank[kind] for rank in ranks) / len(ranks) / record["seconds"] for kind in ranks[0]}
        )
    return found


def exposed(options: argparse.Namespace) -> dict[str, Any]:
    """Visible share of the sending time, for two stages on hosts of their own behind a slow link.

    Rates are chosen such that sending an epoch's rows would take a share of its computation.
    """
    flags = [
        *GRAPH, *QUIET, "--model", "gcnii", "--layers", str(LAYERS), "--stages", "2", "--chunks", "32",
        "--initial", "recompute", "--threads", "1", "--epochs", str(options.epochs),
    ]  # fmt: skip
    result: dict[str, Any] = {}
    with namespaces.hosts(2) as names:
        for rate in options.megabits:
            run = namespaces.train(names, options.work / f"exposed-{rate}", *flags, megabits_per_second=rate)
            record = common.summary(run)
            sent = max(rank["communication-layer"] for rank in record["bytes_per_epoch_by_rank"])
            sending = 8 * sent / (rate * 1e6)
            seconds = statistics.median(common.epoch_seconds(run))
            waits = statistics.median(item["communication_layer"] for item in shares(run)) * seconds
            result[str(rate)] = {
                "epoch_seconds": seconds,
                "seconds_of_sending_one_way": sending,
                "waited_seconds": waits,
                "exposed_share": waits / (2 * sending),
            }
    return result


GROWTH = {
    "blocks of 1,000 nodes": (1_000, "fp32"),
    "100 blocks": (None, "fp32"),
    "blocks of 1,000 nodes, bf16 tables": (1_000, "bf16"),
}
"""Nodes of a block (None: always 100 blocks) and format of the tables."""


def scaling(options: argparse.Namespace) -> dict[str, Any]:
    """GCN with 3 layers of 32: seconds of an epoch by number of edges, at 20 edges a node.

    Communities either keep their size as the graph grows, or grow with it, so that a larger graph has less
    locality too.
    """
    seconds: dict[tuple[str, int], list[float]] = {
        (kind, edges): [] for edges in options.edges for kind in options.growth
    }
    for round_ in range(options.rounds):
        for kind, edges in seconds:
            nodes = edges // 20
            size, form = GROWTH[kind]
            blocks = nodes // size // 10 if size else 10  # of each of ten classes
            run = options.work / f"scaling-{edges}-{blocks}-{form}-{round_}"
            common.train(
                run, "--synthetic.num_nodes", str(nodes), "--synthetic.blocks_per_class", str(blocks),
                "--model", "gcn", "--layers", "3", "--hidden", "32", "--eval-every", "1000", "--tables",
                form, "--epochs", str(options.epochs + 4), "--threads", str(THREADS),
            )  # fmt: skip
            seconds[kind, edges] += common.epoch_seconds(run)
    result: dict[str, Any] = {kind: {} for kind in options.growth}
    for (kind, edges), found in seconds.items():
        each = statistics.median(found) / edges * 1e6
        result[kind][str(edges)] = {"epoch_seconds": found, "seconds_per_million_edges": each}
    for found_sizes in result.values():
        per_edge = [entry["seconds_per_million_edges"] for entry in found_sizes.values()]
        found_sizes["most_over_least"] = max(per_edge) / min(per_edge)
    return result


def tables(options: argparse.Namespace) -> dict[str, Any]:
    """Epochs with tables of float32 and of bfloat16, which are half as large."""
    deep = [*GRAPH, *QUIET, "--model", "gcnii", "--layers", str(LAYERS)]
    wide_graph = [
        "--synthetic.num_nodes", "500_000", "--synthetic.blocks_per_class", "50", "--model", "gcn",
        "--layers", "3", "--hidden", "32", "--eval-every", "1000", "--threads", str(THREADS),
    ]  # fmt: skip
    cases = {
        "gcnii, one stage, one chunk": [*deep, "--threads", str(THREADS)],
        "gcnii, two stages, 16 chunks": [*deep, "--stages", "2", "--chunks", "16", "--threads", "1"],
        "gcn, 10 M edges": wide_graph,
    }
    result: dict[str, Any] = {}
    for number, (case, flags) in enumerate(cases.items()):
        seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for round_ in range(options.rounds):
            for form, found in seconds.items():
                run = options.work / f"tables-{number}-{form}-{round_}"
                common.train(run, *flags, "--tables", form, "--epochs", str(options.epochs))
                found += common.epoch_seconds(run)
        medians = {form: statistics.median(found) for form, found in seconds.items()}
        result[case] = {
            "epoch_seconds": seconds,
            "median": medians,
            "bf16_over_fp32": medians["bf16"] / medians["fp32"],
        }
    return result


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of the largest rank, predicted against measured, of the runs of the other sections.

    Where checkpoints were written, the prediction includes their copies.
    """
    result = {}
    for run in sorted(options.work.glob("*-0*/summary.json")):
        plan = json.loads((run.parent / "plan.json").read_text())
        ranks = list(plan["predictions"]["memory_bytes"])
        if (run.parent / "checkpoints").exists():
            copies = plan["predictions"]["checkpoint_bytes"]
            ranks = [sum(both) for both in zip(ranks, copies, strict=True)]
        predicted = max(ranks)
        measured = max(common.summary(run.parent)["peak_memory_bytes"])
        result[run.parent.name] = {
            "predicted": predicted,
            "measured": measured,
            "ratio": predicted / measured,
        }
    return result


# Nodes, features, classes of the published cells' graphs.
PUBLISHED = {"squirrel": (5_201, 2_089, 5), "flickr": (89_250, 500, 7), "reddit": (232_965, 602, 41)}
MODELS = {"gcn": "gcn", "graphsage": "sage", "gcnii": "gcnii"}


def volume(options: argparse.Namespace) -> dict[str, Any] | None:
    """Bytes of published graph parallelism over those of a pipeline of 8 stages, in the nine published cells.

    The former are the published figures. The latter follow from the formula; a run's counters equal it to the
    byte.
    """
    if options.published is None:
        return None
    result: dict[str, Any] = {"cells": {}}
    ratios: dict[str, list[float]] = {"fp32": [], "bf16": [], "int8": []}
    with (options.published / "gnnpipe_a5000.csv").open() as file:
        for row in csv.DictReader(file):
            nodes, features, classes = PUBLISHED[row["graph"]]
            hidden = 1000 if row["graph"] == "squirrel" else 100
            spec = ModelSpec(
                MODELS[row["model"]], LAYERS, hidden, features, classes, False, 0, GcniiConfig()  # type: ignore[arg-type]
            )  # fmt: skip
            cell: dict[str, Any] = {"graph_gib": float(row["gib_graph"])}
            for wire in ratios:
                plan = replace(make_plan(8, 1, 32, LAYERS, nodes), initial="recompute", wire=wire)
                ours = volume_of(plan, spec, nodes, HaloRows(0, 0)).total / 2**30
                cell[wire] = {"gib": ours, "ratio": cell["graph_gib"] / ours}
                ratios[wire].append(cell[wire]["ratio"])
            result["cells"][f"{row['graph']} {row['model']}"] = cell
    result["geometric_mean"] = {wire: statistics.geometric_mean(found) for wire, found in ratios.items()}
    return result


def checkpoint(options: argparse.Namespace) -> dict[str, Any]:
    """Cost of a checkpoint every ten epochs for two stages of one thread each, copying and writing together.

    Whole runs differ by more than that, so the cost is taken from the ten epochs around a checkpoint, less
    the same of runs without checkpoints. The first one of a run touches memory for its copies and is kept
    apart.
    """
    found: dict[str, dict[str, list[float]]] = {
        name: {"first": [], "later": []} for name in ("without", "with")
    }
    for round_ in range(options.rounds):
        for name, every in (("without", "0"), ("with", "10")):
            run = options.work / f"checkpoint-{name}-{round_}"
            flags = ["--model", "gcnii", "--layers", str(LAYERS), "--stages", "2", "--threads", "1"]
            common.train(run, *GRAPH, *QUIET, *flags, "--epochs", "36", "--checkpoint-every", every)
            first, *later = (more_than_usual(run, epoch) for epoch in (10, 20, 30))
            found[name]["first"].append(first)
            found[name]["later"] += later
    newest = max((options.work / "checkpoint-with-0" / "checkpoints").iterdir())
    medians = {
        which: {name: statistics.median(found[name][which]) for name in found} for which in ("first", "later")
    }
    return {
        "more_than_usual": found,
        "bytes": sum(path.stat().st_size for path in newest.iterdir()),
        "overhead": medians["later"]["with"] - medians["later"]["without"],
        "overhead_of_the_first": medians["first"]["with"] - medians["first"]["without"],
    }


def more_than_usual(run: Path, epoch: int) -> float:
    """Relative extra time of the ten epochs around ``epoch``, the time between them included.

    The reference is ten times the median of the eight of them in which no checkpoint is written.
    """
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    around = records[epoch - 5 : epoch + 5]
    usual = statistics.median(item["seconds"] for item in [*around[:5], *around[7:]])
    return float(records[epoch + 4]["elapsed"] - records[epoch - 6]["elapsed"]) / (10 * usual) - 1


SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any] | None]] = {
    "single": single,
    "race": race,
    "limit": limit,
    "stages": stages,
    "exposed": exposed,
    "scaling": scaling,
    "tables": tables,
    "memory": memory,
    "checkpoint": checkpoint,
    "volume": volume,
}


if __name__ == "__main__":
    main()
