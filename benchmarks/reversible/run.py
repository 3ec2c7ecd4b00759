"""Memory and time of reversible blocks by depth, and how far rounding goes. README.md has results.

python -m benchmarks.reversible.run --work FOLDER [--only depth proteins growth fits drift] [--hours 1]

``depth`` and ``proteins`` are resumable: runs that result.json holds are not repeated, so that they may be
made one at a time (``--match REGEX``).
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from gnnpipe.config.run import GcniiConfig, SyntheticConfig
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.nn.models import ModelSpec, Options
from gnnpipe.planner.memory.rank import RankRows, adjacency_bytes, rank_memory
from gnnpipe.schedule.plan import make_plan
from tests.harness import Case, train

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.reversible.run --work FOLDER"
NODES, ENTRIES, FEATURES, HIDDEN = 132_534, 79_122_504, 8, 80
"""ogbn-proteins' numbers, and the width of RevGNN-Deep (arXiv 2106.07476, table 2)."""
MODEL = (
    f"--model resgcn --hidden {HIDDEN} --synthetic.num_nodes {NODES} --synthetic.num_features {FEATURES} "
    "--dropout 0.1 --eval-every 100000 --checkpoint-every 0 --threads 1 --timeout 7200"
)
# A layer of the paper is a block: two convolutions here, one of each group.
KINDS = {
    "plain": "",
    "plain, 16 chunks, recomputed, bf16 tables": "--chunks 16 --recompute --tables bf16",
    "reversible": "--reversible",
    "reversible, 16 chunks, recomputed, bf16 tables": "--reversible --chunks 16 --recompute --tables bf16",
}
DEPTHS = {
    "plain": (16, 64, 112),
    "plain, 16 chunks, recomputed, bf16 tables": (16, 64, 112),
    "reversible": (16, 64, 224, 448, 2002),
    "reversible, 16 chunks, recomputed, bf16 tables": (16, 64, 224),
}
ROOM = 20 * 2**30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the runs and the prepared graphs"
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--match", default="", help="make only the runs whose name has this pattern")
    parser.add_argument("--hours", type=float, default=2.0, help="start no run after so many")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    options.end = time.monotonic() + 3600 * options.hours
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        SECTIONS[name](options, result)
        options.out.write_text(json.dumps(common.rounded(result), indent=2) + "\n")
    print("\n".join(tables(result)))


def depth(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Peak memory and seconds by depth, on a graph of as many nodes and few edges."""
    for kind, flags in KINDS.items():
        for layers in DEPTHS[kind]:
            epochs = 1 if layers > 500 else 3
            shape = f"{flags} --layers {layers} --epochs {epochs} --synthetic.avg_degree 10"
            measured(options, result, f"depth/{kind}/{layers}", shape)


def proteins(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """The same with as many edges as ogbn-proteins has; few layers, as their seconds add up."""
    degree = ENTRIES / NODES
    for kind in ("plain", "reversible"):
        for layers in (2, 4, 8):
            shape = f"{KINDS[kind]} --layers {layers} --epochs 2 --synthetic.avg_degree {degree:.1f}"
            measured(options, result, f"proteins/{kind}/{layers}", shape)


def measured(options: argparse.Namespace, result: dict[str, Any], name: str, flags: str) -> None:
    runs = result.setdefault("runs", {})
    if name in runs or not re.search(options.match, name) or time.monotonic() > options.end:
        return
    folder = options.work / re.sub(r"[^a-z0-9]+", "-", name)
    common.train(folder, *MODEL.split(), *flags.split(), "--cache", str(options.work / "cache"))
    found, plan = common.summary(folder), json.loads((folder / "plan.json").read_text())
    seconds = [json.loads(line)["seconds"] for line in (folder / "records.jsonl").read_text().splitlines()]
    runs[name] = {
        "peak_gib": found["peak_memory_bytes"][0] / 2**30,
        "predicted_gib": plan["predictions"]["memory_bytes"][0] / 2**30,
        "seconds": statistics.median(seconds[1:] or seconds),
    }
    result["environment"] = common.environment(folder, COMMAND)
    options.out.write_text(json.dumps(common.rounded(result), indent=2) + "\n")
    print(name, runs[name], flush=True)


def growth(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """What a convolution costs beside rows: weights, and Python's and PyTorch's objects."""
    for layers in (500, 2002):
        shape = f"--reversible --layers {layers} --epochs 2 --synthetic.avg_degree 8"
        measured(options, result, f"growth/reversible/{layers}", f"{shape} --synthetic.num_nodes 1000")


def fits(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Most convolutions whose predicted peak is within `ROOM`, with the edges of ogbn-proteins."""
    result["fits"] = {kind: most_layers(kind) for kind in KINDS}
    runs = result.get("runs", {})
    if "growth/reversible/2002" in runs and "growth/reversible/500" in runs:
        # where rows do not add up, objects do, which the prediction leaves out
        more = runs["growth/reversible/2002"]["peak_gib"] - runs["growth/reversible/500"]["peak_gib"]
        each = more * 2**30 / 1502
        result["bytes_of_a_convolution"] = each
        result["fits"]["reversible"] = round((ROOM - predicted("reversible", 2)) / each, -3)


def most_layers(kind: str, limit: int = 2**24) -> int:
    """The number of convolutions, up to ``limit``."""
    low, high = 2, limit
    if predicted(kind, high) <= ROOM:
        return high
    while high - low > 2:
        middle = (low + high) // 4 * 2
        low, high = (middle, high) if predicted(kind, middle) <= ROOM else (low, middle)
    return low


def predicted(kind: str, layers: int) -> int:
    """Predicted peak bytes of one process.

    The memory of a stack follows from three short ones: it is linear in the number of layers.
    """
    short, longer = (_predicted(kind, number) for number in (8, 16))
    return short + (longer - short) * (layers - 8) // 8


def _predicted(kind: str, layers: int) -> int:
    chunks = 16 if "16 chunks" in kind else 1
    tables = "bf16" if "bf16" in kind else "fp32"
    spec = ModelSpec(
        "resgcn", layers, HIDDEN, FEATURES, 10, False, 0, GcniiConfig(),
        Options(groups=2 if "reversible" in kind else 1),
    )  # fmt: skip
    plan = replace(make_plan(1, 1, chunks, layers, NODES), tables=tables, recompute="recomputed" in kind)
    settings = (
        TableSettings(alone=True, format=tables)
        if chunks == 1
        else TableSettings(gradient="reuse", weight=0.7, format=tables)
    )
    entries = ENTRIES + NODES
    rows = RankRows(
        NODES,
        0,
        -(-NODES // chunks),
        adjacency_bytes(entries, NODES, 1, tables),
        FEATURES * NODES,
        0.6,
        edges_per_row=entries / NODES,
    )
    return rank_memory(plan, spec, settings, 0, rows)


def drift(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Gradients from rows that were made again against those from rows that were kept."""
    data = planted_partition(SyntheticConfig(num_nodes=1000, num_features=32, avg_degree=8), split=0)
    result["drift"] = {}
    for layers in (8, 100, 1000, 2002):
        case = Case(data, "resgcn", layers, HIDDEN, dropout=0.1, epochs=1, options=Options(groups=2))
        again = train(case)
        kept = train(case.with_(chunks=2, lookahead=1, exact=True))
        pairs = [(again.gradients[0][name], kept.gradients[0][name]) for name in kept.gradients[0]]
        off = torch.stack([(mine - theirs).double().square().sum() for mine, theirs in pairs]).sum().sqrt()
        size = torch.stack([theirs.double().square().sum() for _, theirs in pairs]).sum().sqrt()
        first = again.gradients[0]["input.weight"], kept.gradients[0]["input.weight"]
        result["drift"][str(layers)] = {
            "all": float(off / size),
            "input.weight": float((first[0] - first[1]).norm() / first[1].norm()),
        }
        print(layers, result["drift"][str(layers)], flush=True)


def tables(result: dict[str, Any]) -> list[str]:
    """The tables of the README."""
    lines = [
        "| graph | kind | convolutions | peak GiB | predicted | s an epoch |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in sorted(result.get("runs", {}).items(), key=lambda item: _key(item[0])):
        graph, kind, layers = name.split("/")
        degree = {"depth": "degree 10", "proteins": "degree 597"}.get(graph, "1,000 nodes")
        seconds = f"{run['seconds']:.3g}" if run["seconds"] else "-"  # of a busy machine: not told
        sizes = f"{run['peak_gib']:.2f} | {run['predicted_gib']:.2f}"
        lines.append(f"| {degree} | {kind} | {layers} | {sizes} | {seconds} |")
    lines += ["", "| kind | convolutions of width 80 in 20 GiB |", "|---|---|"]
    lines += [f"| {kind} | {number:,.0f} |" for kind, number in result.get("fits", {}).items()]
    lines += ["", "| convolutions | gradients off | of the input layer |", "|---|---|---|"]
    lines += [
        f"| {layers} | {off['all']:.1e} | {off['input.weight']:.1e} |"
        for layers, off in result.get("drift", {}).items()
    ]
    return lines


def _key(name: str) -> tuple[str, str, int]:
    graph, kind, layers = name.split("/")
    return graph, kind, int(layers)


SECTIONS: dict[str, Callable[[argparse.Namespace, dict[str, Any]], None]] = {
    "depth": depth,
    "proteins": proteins,
    "growth": growth,
    "fits": fits,
    "drift": drift,
}


if __name__ == "__main__":
    main()
