"""What ``gnnpipe plan`` prints."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict

from rich.table import Table

from gnnpipe.config.commands import PlanConfig
from gnnpipe.planner.hardware import Hardware
from gnnpipe.planner.question import Question
from gnnpipe.planner.search import Candidate, describe
from gnnpipe.report.console import wide_console
from gnnpipe.system.words import readable_bytes

LEGEND = """\
plan: stages x parts x chunks. Shares of an epoch, mean over devices: idle waits for other stages (bubble) or
parts (imbalance), rows between stages and boundary rows between parts that computation does not hide.
sent: bytes of an epoch over all devices. memory: of the device that needs most. All by simulation."""


def print_plans(found: list[Candidate], config: PlanConfig, question: Question, hardware: Hardware) -> None:
    """Print the best plans as a table, or JSON if the config says so."""
    command = train_command(found[0], config)
    if config.json:
        content = {
            "graph": question.name,
            "notes": question.notes,
            "hardware": hardware.name,
            "devices": config.devices,
            "why": why(found),
            "command": command,
            "plans": [as_json(item) for item in found],
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return
    console = wide_console()
    size = question.size
    console.print(
        f"{question.name}: {size.num_nodes:,} nodes, {size.num_edges:,} entries of the adjacency; "
        f"{config.model}, {config.layers} layers, hidden {config.hidden}; {config.devices} devices of "
        f"{hardware.name} ({hardware.source})",
        markup=False,
    )
    for line in question.notes:
        console.print(f"note: {line}", markup=False)
    table = Table()
    columns = ("plan", "", "epoch", "compute", "idle", "rows", "boundary rows", "sent", "memory")
    for name in columns:
        table.add_column(name, justify="left" if name in ("plan", "") else "right", no_wrap=True)
    fitting = [item for item in found if not item.lack]
    for item in fitting[: config.show]:
        table.add_row(*_row(item))
    console.print(table)
    console.print(LEGEND)
    if len(fitting) > config.show:
        console.print(
            f"{len(fitting) - config.show} slower plans are left out; --show {len(fitting)} shows them"
        )
    for item in found:
        if item.lack:
            console.print(
                f"thrown out: {describe(item.plan)} needs {readable_bytes(item.memory)} a device, "
                f"{readable_bytes(item.lack)} too much",
                markup=False,
            )
    console.print(f"\n{why(found)}", markup=False)
    console.print(f"Run it:\n  {command}", markup=False, soft_wrap=True)


def why(found: list[Candidate]) -> str:
    """One sentence: what the winner gains over the best plan of another shape, and how."""
    best = found[0]
    shape = (best.plan.num_stages, best.plan.num_parts)
    others = [
        item for item in found if not item.lack and (item.plan.num_stages, item.plan.num_parts) != shape
    ]
    name = _kind(best)
    if not others:
        return f"{describe(best.plan)} ({name}) is the only shape that fits."
    other = others[0]
    reasons = []
    for words, one, two in (
        ("waits for boundary rows", best.mean.communication_graph, other.mean.communication_graph),
        ("waits for rows of other stages", best.mean.communication_layer, other.mean.communication_layer),
        ("idles while stages fill and empty", best.mean.bubble, other.mean.bubble),
        ("computes", best.mean.compute, other.mean.compute),
    ):
        gained = (two - one) / other.seconds
        if gained > 0.01:
            reasons.append((gained, f"{words} {_seconds(one)} instead of {_seconds(two)}"))
    reasons.sort(reverse=True)
    because = "; it " + " and ".join(text for _, text in reasons[:2]) if reasons else ""
    times = other.seconds / best.seconds
    sent = [readable_bytes(item.volume.total) for item in (best, other)]
    return (
        f"{describe(best.plan)} ({name}) is {times:.2f} x as fast as {describe(other.plan)} "
        f"({_kind(other)}), the best of another shape{because}, and sends {sent[0]} an epoch instead of "
        f"{sent[1]}."
    )


def train_command(best: Candidate, config: PlanConfig) -> str:
    """The command that runs a plan."""
    plan = best.plan
    words = ["gnnpipe", "train"]
    if config.num_nodes is None:
        words += ["--dataset", config.dataset]
        words += ["--root", config.root] if config.root else []
        words += ["--undirected"] if config.undirected else []
        default, mine = asdict(PlanConfig().synthetic), asdict(config.synthetic)
        words += [f"--synthetic.{key}={value}" for key, value in mine.items() if value != default[key]]
    words += ["--model", config.model, "--layers", str(config.layers), "--hidden", str(config.hidden)]
    words += [
        "--stages",
        str(plan.num_stages),
        "--parts",
        str(plan.num_parts),
        "--chunks",
        str(plan.num_chunks),
    ]
    words += ["--initial", plan.initial] if plan.recomputes_initial else []
    words += ["--wire", plan.wire] if plan.wire != "fp32" else []
    words += ["--tables", plan.tables] if plan.tables != "fp32" else []
    return shlex.join(words)


def as_json(item: Candidate) -> dict[str, object]:
    """A plan for ``--json``."""
    plan = item.plan
    return {
        "plan": describe(plan),
        "stages": plan.num_stages,
        "parts": plan.num_parts,
        "chunks": plan.num_chunks,
        "layer_ranges": plan.layer_ranges,
        "initial": plan.initial,
        "wire": plan.wire,
        "tables": plan.tables,
        "seconds": None if item.lack else item.seconds,
        "breakdown": asdict(item.mean),
        "bytes": asdict(item.volume) | {"total": item.volume.total},
        "memory_bytes": item.memory,
        "lacking_bytes": item.lack,
    }


def _row(item: Candidate) -> list[str]:
    mean, seconds = item.mean, item.seconds
    shares = (
        mean.compute,
        mean.bubble + mean.imbalance,
        mean.communication_layer,
        mean.communication_graph,
    )
    return [
        describe(item.plan),
        _kind(item),
        _seconds(seconds),
        *(f"{share / seconds:.0%}" for share in shares),
        readable_bytes(item.volume.total),
        readable_bytes(item.memory),
    ]


def _kind(item: Candidate) -> str:
    plan = item.plan
    if plan.num_ranks == 1:
        return "one device"
    return "pipeline" if plan.num_parts == 1 else "graph" if plan.num_stages == 1 else "hybrid"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
