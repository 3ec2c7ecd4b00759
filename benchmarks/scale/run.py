"""Where pipeline, graph parallelism and hybrid win, up to 1,024 GPUs. All figures are simulated.

python -m benchmarks.scale.run            # some minutes; writes result.json
python -m benchmarks.scale.draw           # table and picture, from result.json

The graphs are given by their sizes only: Reddit's and ogbn-papers100M's.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import common
from gnnpipe.config.commands import PlanConfig
from gnnpipe.errors import PlanError
from gnnpipe.planner.hardware import SHIPPED
from gnnpipe.planner.question import Question, question_of
from gnnpipe.planner.search import describe, search

HERE = Path(__file__).parent
# Alpha of 8 parts: Reddit's follows from the published volume of graph parallelism; for papers100M, whose cut
# is not published, that of ogbn-arxiv is taken, a citation graph too.
GRAPHS: dict[str, dict[str, Any]] = {
    "Reddit": {"num_nodes": 232_965, "num_edges": 114_848_857, "num_features": 602, "num_classes": 41},
    "papers100M": {
        "num_nodes": 111_059_956, "num_edges": 1_615_685_872, "num_features": 128, "num_classes": 172,
    },
}  # fmt: skip
ALPHA = {"Reddit": 2.61, "papers100M": 0.70}
DEPTHS = (8, 16, 32, 64, 128)
DEVICES = (8, 16, 64, 256, 1024)
HIDDEN = 256
KINDS = ("graph", "hybrid", "pipeline")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", default="h100")
    parser.add_argument("--model", default="gcnii")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    hardware = SHIPPED[options.hardware]
    cells = []
    for graph, sizes in GRAPHS.items():
        for layers in DEPTHS:
            for devices in DEVICES:
                config = PlanConfig(
                    **sizes,
                    alpha=alpha(graph, devices),
                    model=options.model,
                    layers=layers,
                    hidden=HIDDEN,
                    devices=devices,
                )
                question = question_of(config)
                best = {
                    kind: best_of(config, only(question, kind, devices), options.hardware) for kind in KINDS
                }
                cells.append({"data": graph, "layers": layers, "devices": devices} | best)
                print(cells[-1], flush=True)
    result = {
        "command": "python -m benchmarks.scale.run",
        "what": "simulated epochs; no such machine was at hand",
        "hardware": hardware.source,
        "model": options.model,
        "hidden": HIDDEN,
        "cells": cells,
    }
    options.out.write_text(as_text(result))


def alpha(graph: str, devices: int) -> float:
    """Alpha of ``parts`` parts: assumed to grow with the logarithm of their number."""
    return ALPHA[graph] * math.log(devices) / math.log(8)


def only(question: Question, kind: str, devices: int) -> Question:
    """The cuts that make plans of one kind."""
    kept = {
        parts: cut
        for parts, cut in question.cuts.items()
        if kind == ("pipeline" if parts == 1 else "graph" if parts == devices else "hybrid")
    }
    return replace(question, cuts=kept)


def best_of(config: PlanConfig, question: Question, hardware: str) -> dict[str, Any] | None:
    """The fastest plan that fits into memory; None if there is none."""
    try:
        found = search(config, question, SHIPPED[hardware])[0]
    except PlanError:
        return None
    return {"plan": describe(found.plan), "seconds": found.seconds, "memory": found.memory}


def as_text(result: dict[str, Any]) -> str:
    """One line a cell."""
    head = json.dumps({key: value for key, value in result.items() if key != "cells"}, indent=1)[:-2]
    cells = ",\n".join("  " + json.dumps(common.rounded(cell)) for cell in result["cells"])
    return f'{head},\n "cells": [\n{cells}\n]}}\n'


if __name__ == "__main__":
    main()
