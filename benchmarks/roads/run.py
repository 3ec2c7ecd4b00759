"""Exact pipelines on road networks against one process and graph parallelism. README.md has the results.

python -m benchmarks.roads.run --work FOLDER --data FOLDER [--only roads-16-64]

Runs that result.json holds are not repeated. Runs over a limited link need root (network namespaces).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common, namespaces
from gnnpipe.schedule.plan import make_plan

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
COMMAND = "python -m benchmarks.roads.run --work FOLDER --data FOLDER"
LINK = 1000.0
"""Mbit/s that each host may send over the limited link."""
TABLE = "<!-- table:begin (run.py writes it) -->", "<!-- table:end -->"
COLUMNS = "graph, layers, hidden", "plan", "chunks, lookahead", "s/epoch", "speed-up", "simulated", "bubble"


@dataclass(frozen=True)
class Cell:
    """A graph and a model."""

    graph: str
    layers: int
    hidden: int

    @property
    def name(self) -> str:
        return f"{self.graph}-{self.layers}-{self.hidden}"

    def flags(self, data: Path | None) -> list[str]:
        """Flags of the graph and the model.

        Args:
            data: graph folder of Pasadena.
        """
        epochs = 20 if self.graph == "pasadena" else 6
        roads = "--synthetic.kind roads --synthetic.num_nodes 114000 --synthetic.num_features 32"
        graph = f"--graph {data} --standardize-features" if self.graph == "pasadena" else roads
        return (
            f"{graph} --model sage --norm layer --layers {self.layers} --hidden {self.hidden} --dropout 0.2 "
            f"--lr 0.001 --epochs {epochs} --eval-every {epochs} --threads 1 --staleness exact"
        ).split()


CELLS = [
    Cell(graph, layers, hidden)
    for graph in ("pasadena", "roads")
    for layers in (16, 32)
    for hidden in (64, 128)
]
PLANS = {
    "one chunk, one process": "--stages 1",
    "2 stages": "--stages 2",
    "2 stages, 1 Gbit/s": "--stages 2",
    "2 parts, 1 Gbit/s": "--parts 2",
}
ONE = next(iter(PLANS))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--data", type=Path, help="folder that holds CityNetwork/pasadena.npz")
    parser.add_argument("--only", nargs="*", help="names of cells, such as roads-16-64")
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {"cells": {}}
    for cell in CELLS:
        if options.only and cell.name not in options.only:
            continue
        if cell.graph == "pasadena" and options.data is None:
            continue
        pasadena = imported(options.work, options.data) if cell.graph == "pasadena" else None
        rows = result["cells"].setdefault(cell.name, {})
        for plan, flags in PLANS.items():
            if plan not in rows:
                out = options.work / f"{cell.name}-{plan}".replace(" ", "-").replace(",", "").replace("/", "")
                run = trained(out, [*cell.flags(pasadena), *flags.split()], limited="Gbit" in plan)
                row = row_of(run)
                rows[plan] = common.rounded(row) | {"loss": row["loss"]}
                result |= common.environment(run, COMMAND)
                RESULT.write_text(json.dumps(result, indent=1) + "\n")
    write_table(result["cells"])


def imported(work: Path, data: Path) -> Path:
    """Graph folder of Pasadena, whose edges are made undirected."""
    folder = work / "pasadena"
    if not folder.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        source = str(data / "CityNetwork" / "pasadena.npz")
        subprocess.run(
            [*common.GNNPIPE, "import", source, "--out", str(folder), "--undirected"],
            check=True,
            capture_output=True,
        )
    return folder


def trained(out: Path, flags: list[str], *, limited: bool) -> Path:
    """Train; over a limited link each rank has a host of its own."""
    if not limited:
        return common.train(out, *flags)
    with namespaces.hosts(2) as names:
        return namespaces.train(names, out, *flags, megabits_per_second=LINK)


def row_of(run: Path) -> dict[str, Any]:
    """Figures of a run, medians over all epochs but the first two, in which memory is still touched anew."""
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()[2:]]
    found = json.loads((run / "plan.json").read_text())
    seconds = common.epoch_seconds(run)[1:]
    return {
        "chunks": found["plan"]["num_chunks"],
        "lookahead": found["plan"]["lookahead"],
        "stages": found["plan"]["num_stages"],
        "epoch_seconds": statistics.median(seconds),
        "least_epoch_seconds": min(seconds),
        "compute_seconds": statistics.median(
            sum(rank["compute"] for rank in record["ranks"]) for record in records
        ),
        "bubble": statistics.median(common.bubble_shares(run)),
        "bubble_predicted": found["predictions"]["bubble"],
        "bytes": sum(records[-1]["bytes_sent"].values()),
        "loss": records[-1]["loss"],
        "note": found["plan"]["note"],
    }


def write_table(cells: dict[str, Any]) -> None:
    """Put the table of all cells into README.md."""
    lines = ["| " + " | ".join([*COLUMNS, "predicted", "MB sent", "loss"]) + " |"]
    lines.append("|---" * (len(COLUMNS) + 3) + "|")
    for cell in CELLS:
        rows = cells.get(cell.name, {})
        for plan, row in rows.items():
            name = f"{cell.graph}, {cell.layers}, {cell.hidden}" if plan == ONE else ""
            one = rows[ONE]["epoch_seconds"]
            figures = [
                f"{row['chunks']}, {row['lookahead']}",
                f"{row['epoch_seconds']:.3f}",
                f"{one / row['epoch_seconds']:.2f}",
                simulated(row["note"]),
                f"{row['bubble']:.3f}",
                f"{row['bubble_predicted']:.3f}",
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['loss']:.6f}",
            ]
            lines.append(f"| {name} | {plan} | " + " | ".join(figures) + " |")
        if "2 stages" in rows:
            figure = four_cores(cell.layers, rows)
            lines.append(f"| | 4 stages of a core each | | | | {figure:.2f} | | | | |")
    text = "\n".join(lines)
    print(text)
    readme = HERE / "README.md"
    if readme.is_file():
        before, rest = readme.read_text().split(TABLE[0])
        readme.write_text(f"{before}{TABLE[0]}\n{text}\n{TABLE[1]}{rest.split(TABLE[1])[1]}")


def simulated(note: str) -> str:
    """The speed-up that the planner has written into a plan's note; empty if there is none."""
    return note.split(" x as fast")[0].split()[-1] if " x as fast" in note else ""


def four_cores(layers: int, rows: dict[str, Any]) -> float:
    """Speed-up of four stages with a core each, in as many chunks as two, were each action as fast."""
    two = rows["2 stages"]
    seconds = two["compute_seconds"] / (2 * layers * two["chunks"])
    plan = make_plan(4, 1, two["chunks"], layers, 10**9, two["lookahead"])
    return float(rows[ONE]["epoch_seconds"] / (seconds * plan.makespan()))


if __name__ == "__main__":
    main()
