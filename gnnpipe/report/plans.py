"""The output of ``gnnpipe plan``: a table or JSON, a reason, and the command that runs the best plan."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from gnnpipe.config.code.options import arguments_given
from gnnpipe.config.code.place import is_code
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


def print_plans(
    candidates: list[Candidate], config: PlanConfig, question: Question, hardware: Hardware
) -> None:
    """Print the best plans as a table, or JSON if the config says so.

    Args:
        candidates: plans that fit, fastest first, then those that do not.
        config: the command's settings.
        question: graph and model.
        hardware: the machine that the plans are for.
    """
    command = train_command(candidates[0], config)
    if config.json:
        content = {
            "graph": question.name,
            "notes": question.notes,
            "hardware": hardware.name,
            "devices": config.devices,
            "why": why(candidates),
            "command": command,
            "plans": [as_json(candidate) for candidate in candidates],
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return
    console = wide_console()
    size = question.size
    console.print(
        f"{question.name}: {size.num_nodes:,} nodes, {size.num_edges:,} entries of the adjacency; "
        f"{config.model}, {question.spec.layers} layers, hidden {question.spec.hidden}; {config.devices} "
        f"devices of {hardware.name} ({hardware.source})",
        markup=False,
    )
    for line in question.notes:
        console.print(f"note: {line}", markup=False)
    _print_table(console, candidates, config.show)
    console.print(f"\n{why(candidates)}", markup=False)
    console.print(f"Run it:\n  {command}", markup=False, soft_wrap=True)


def _print_table(console: Console, candidates: list[Candidate], num_shown: int) -> None:
    """Print the fastest plans as a table, and lines on all others: slower ones, and those that do not fit."""
    table = Table()
    columns = ("plan", "", "epoch", "compute", "idle", "rows", "boundary rows", "sent", "memory")
    for name in columns:
        table.add_column(name, justify="left" if name in ("plan", "") else "right", no_wrap=True)
    fitting = [candidate for candidate in candidates if not candidate.lack]
    for candidate in fitting[:num_shown]:
        table.add_row(*_row(candidate))
    console.print(table)
    console.print(LEGEND)
    if len(fitting) > num_shown:
        console.print(
            f"{len(fitting) - num_shown} slower plans are left out; --show {len(fitting)} shows them"
        )
    for candidate in candidates:
        if candidate.lack:
            console.print(
                f"thrown out: {describe(candidate.plan)} needs {readable_bytes(candidate.memory)} a device, "
                f"{readable_bytes(candidate.lack)} too much",
                markup=False,
            )


def why(candidates: list[Candidate]) -> str:
    """One sentence: how much faster the winner is than the best plan of another shape, and by what."""
    best = candidates[0]
    shape = (best.plan.num_stages, best.plan.num_parts)
    others = [
        candidate
        for candidate in candidates
        if not candidate.lack and (candidate.plan.num_stages, candidate.plan.num_parts) != shape
    ]
    name = _kind(best)
    if not others:
        return f"{describe(best.plan)} ({name}) is the only shape that fits."
    rival = others[0]
    # the two largest savings, each at least 1 % of the rival's epoch
    reasons = []
    for words, ours, theirs in (
        ("waits for boundary rows", best.mean.communication_graph, rival.mean.communication_graph),
        ("waits for rows of other stages", best.mean.communication_layer, rival.mean.communication_layer),
        ("idles while stages fill and empty", best.mean.bubble, rival.mean.bubble),
        ("computes", best.mean.compute, rival.mean.compute),
    ):
        saved = (theirs - ours) / rival.seconds
        if saved > 0.01:
            reasons.append((saved, f"{words} {_seconds(ours)} instead of {_seconds(theirs)}"))
    reasons.sort(reverse=True)
    because = "; it " + " and ".join(text for _, text in reasons[:2]) if reasons else ""
    times = rival.seconds / best.seconds
    sent = [readable_bytes(candidate.volume.total) for candidate in (best, rival)]
    return (
        f"{describe(best.plan)} ({name}) is {times:.2f} x as fast as {describe(rival.plan)} "
        f"({_kind(rival)}), the best of another shape{because}, and sends {sent[0]} an epoch instead of "
        f"{sent[1]}."
    )


def train_command(best: Candidate, config: PlanConfig) -> str:
    """The ``gnnpipe train`` command that runs a plan."""
    words = ["gnnpipe", "train"]
    if config.num_nodes is None:
        words += ["--graph", config.graph] if config.graph else ["--dataset", config.dataset]
        words += ["--features", config.features] if config.features else []
        words += ["--root", config.root] if config.root else []
        words += ["--undirected"] if config.undirected else []
        default, mine = asdict(PlanConfig().synthetic), asdict(config.synthetic)
        words += [f"--synthetic.{key}={value}" for key, value in mine.items() if value != default[key]]
    words += ["--model", config.model]
    if is_code(config.model):
        given = arguments_given(config)
        words += ["--model-options", f"[{','.join(given)}]"] if given else []
    else:
        words += ["--layers", str(config.layers), "--hidden", str(config.hidden)]
    words += [word for key, value in best.settings.items() for word in (f"--{key}", str(value))]
    return shlex.join(words)


def as_json(candidate: Candidate) -> dict[str, object]:
    """A plan as an object of ``--json``."""
    plan = candidate.plan
    return {
        "plan": describe(plan),
        "stages": plan.num_stages,
        "parts": plan.num_parts,
        "chunks": plan.num_chunks,
        "layer_ranges": plan.layer_ranges,
        "initial": plan.initial,
        "wire": plan.wire,
        "tables": plan.tables,
        "seconds": None if candidate.lack else candidate.seconds,
        "breakdown": asdict(candidate.mean),
        "bytes": asdict(candidate.volume) | {"total": candidate.volume.total},
        "memory_bytes": candidate.memory,
        "lacking_bytes": candidate.lack,
    }


def _row(candidate: Candidate) -> list[str]:
    mean, seconds = candidate.mean, candidate.seconds
    shares = (
        mean.compute,
        mean.bubble + mean.imbalance,
        mean.communication_layer,
        mean.communication_graph,
    )
    return [
        describe(candidate.plan),
        _kind(candidate),
        _seconds(seconds),
        *(f"{share / seconds:.0%}" for share in shares),
        readable_bytes(candidate.volume.total),
        readable_bytes(candidate.memory),
    ]


def _kind(candidate: Candidate) -> str:
    plan = candidate.plan
    if plan.num_ranks == 1:
        return "one device"
    return "pipeline" if plan.num_parts == 1 else "graph" if plan.num_stages == 1 else "hybrid"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
