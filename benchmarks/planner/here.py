"""Compare the simulator with this machine: predicted and measured epochs of 30 plans.

python -m benchmarks.planner.here --work FOLDER [--rounds 2]

Needs root for the plans over a slow link (network namespaces); without it they are left out. Every plan is
trained for some epochs in each round. Before the first round, and after every one, ``gnnpipe profile``
measures the machine on the benchmark's own graph. A prediction is the median over profiles. Runs and profiles
that FOLDER holds are not repeated.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import common, namespaces
from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.run import Model, SyntheticConfig
from gnnpipe.planner.hardware import Hardware, Link, load_hardware
from gnnpipe.planner.predictions import convolution_costs
from gnnpipe.planner.question import Question, question_of
from gnnpipe.planner.search import assess
from gnnpipe.schedule.plan import make_plan

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.planner.here --work FOLDER"
GRAPH = SyntheticConfig(num_nodes=40_000)
LAYERS, HIDDEN = 16, 64
MODELS: tuple[Model, ...] = ("gcnii", "resgcn")
# Stages, parts, chunks.
PLANS = [
    (1, 1, 1), (1, 1, 16), (2, 1, 4), (2, 1, 16), (2, 1, 32), (4, 1, 16), (4, 1, 32),
    (1, 2, 1), (1, 4, 1), (2, 2, 4), (2, 2, 16),
]  # fmt: skip
SLOW_PLANS = [(2, 1, 16), (1, 2, 1), (4, 1, 16), (2, 2, 4)]
SLOW_LINK = 200.0
"""Mbit/s."""
STEADIER = 3
"""Divides the number of epochs over the slow link: they scatter less, so that fewer will do."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2, help="times that every plan is run")
    parser.add_argument("--epochs", type=int, default=18, help="of a run; the first is not counted")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--out", type=Path, default=HERE / "here.json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    questions = {
        model: question_of(PlanConfig(model=model, layers=LAYERS, hidden=HIDDEN, devices=4, synthetic=GRAPH))
        for model in options.models
    }
    cells = [(model, shape, None) for model in options.models for shape in PLANS]
    cells += [(model, shape, SLOW_LINK) for model in options.models for shape in SLOW_PLANS]
    seconds: dict[Any, list[float]] = {cell: [] for cell in cells}
    profiles = [profile(options.work / "profile-0.json", options.models)]
    for round_ in range(options.rounds):
        for cell in cells:
            try:
                epochs = options.epochs if cell[-1] is None else max(2, options.epochs // STEADIER)
                seconds[cell] += measure(*cell, options.work, round_, epochs)
            except namespaces.NotPossibleError as error:
                print(f"left out: {cell} ({error})", flush=True)
        profiles.append(profile(options.work / f"profile-{round_ + 1}.json", options.models))
    rows = []
    for cell, measured in seconds.items():
        if not measured:
            continue
        model, shape, rate = cell
        each = [predict(questions[model], shape, rate, hardware) for hardware in profiles]
        predicted = statistics.median(each)
        median = statistics.median(measured)
        rows.append(
            {
                "model": model,
                "plan": "x".join(map(str, shape)),
                "megabits_per_second": rate,
                "measured": median,
                "spread": [min(measured), max(measured)],
                "predicted": predicted,
                "predicted_spread": [min(each), max(each)],
                "error": predicted / median - 1,
            }
        )
    environment = common.environment(sorted(options.work.glob("*/summary.json"))[-1].parent, COMMAND)
    result = {
        "mean_absolute_error": statistics.mean(abs(row["error"]) for row in rows),
        "worst": max(abs(row["error"]) for row in rows),
        "best_plans": best_plans(rows),
        "profiles": [asdict(hardware) for hardware in profiles],
        "rows": rows,
        "environment": environment,
    }
    common.write(options.out, common.rounded(result))


def profile(path: Path, models: list[str]) -> Hardware:
    """This machine as it is now."""
    if not path.exists():
        subprocess.run(
            [
                *common.GNNPIPE, "profile", f"--synthetic.num_nodes={GRAPH.num_nodes}", "--models",
                f"[{','.join(models)}]", "--hidden", f"[{HIDDEN}]", "--out", str(path),
            ],
            check=True,
        )  # fmt: skip
    return load_hardware(str(path))


def measure(
    model: str, shape: tuple[int, int, int], rate: float | None, work: Path, round_: int, epochs: int
) -> list[float]:
    """Seconds of the epochs of one run."""
    stages, parts, chunks = shape
    flags = [
        f"--synthetic.num_nodes={GRAPH.num_nodes}", "--model", model, "--layers", str(LAYERS), "--hidden",
        str(HIDDEN), "--stages", str(stages), "--parts", str(parts), "--chunks", str(chunks), "--threads",
        "1", "--epochs", str(epochs), "--eval-every", "1000",
    ]  # fmt: skip
    out = work / f"{model}-{stages}x{parts}x{chunks}-{'fast' if rate is None else 'slow'}-{round_}"
    if (out / "summary.json").exists():
        return common.epoch_seconds(out)
    if rate is None:
        common.train(out, *flags)
    else:
        with namespaces.hosts(stages * parts) as names:
            namespaces.train(names, out, *flags, megabits_per_second=rate)
    return common.epoch_seconds(out)


def predict(question: Question, shape: tuple[int, int, int], rate: float | None, hardware: Hardware) -> float:
    """Simulated seconds of an epoch; over the slow link each rank is a host of its own, on the same cores."""
    costs = convolution_costs(question.spec, question.size, hardware.rates)
    plan = make_plan(*shape, question.spec.layers, question.size.num_nodes, costs=costs)
    here = replace(hardware, devices_per_host=4)
    if rate is not None:
        link = Link(hardware.network.latency, rate * 1e6 / 8)
        here = replace(hardware, devices_per_host=1, network=link, hosts_per_machine=4)
    return assess(plan, question, here).seconds


def best_plans(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each model and link: the plans predicted and measured best, and how much slower the former is."""
    found = []
    for model, rate in sorted({(row["model"], row["megabits_per_second"] or 0) for row in rows}):
        mine = [row for row in rows if (row["model"], row["megabits_per_second"] or 0) == (model, rate)]
        chosen = min(mine, key=lambda row: row["predicted"])
        best = min(mine, key=lambda row: row["measured"])
        found.append(
            {
                "model": model,
                "megabits_per_second": rate or None,
                "predicted_best": chosen["plan"],
                "measured_best": best["plan"],
                "slower_by": chosen["measured"] / best["measured"] - 1,
            }
        )
    return found


if __name__ == "__main__":
    main()
