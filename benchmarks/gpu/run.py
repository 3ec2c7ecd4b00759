"""The device suite: correctness on CUDA, speed of products and epochs, where the time goes, memory.

python -m benchmarks.gpu.run --out FILE [--only SECTION ...] [--seconds 500]
python -m benchmarks.gpu.run --tiny            the same on a CPU, small, in a minute: it still runs

Each section is a process with a time limit of its own, in order of importance; FILE is written after each.
README.md beside this file has results.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import check, limit, ours, pulls, rival
from benchmarks.gpu.graphs import KINDS, make
from benchmarks.gpu.timing import epoch_seconds
from gnnpipe.config.run import Model, TableFormat
from gnnpipe.graph.csr import Csr

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LIMITS = {"check": 70, "planted": 70, "reddit": 75, "stages": 60, "pulls": 60, "others": 60}
EAGER, GRAPHS = "eager", "graphs"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--only", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--seconds", type=int, default=500, help="for all sections together")
    parser.add_argument("--tiny", action="store_true", help="small graphs, few epochs")
    parser.add_argument("--section", choices=LIMITS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        _tell(SECTIONS[options.section](1 if not options.tiny else 100))
        return
    found: dict[str, Any] = {"about": about()}
    ends = time.monotonic() + options.seconds
    for name in options.only:
        left = ends - time.monotonic()
        found[name] = _section(name, min(LIMITS[name], left), tiny=options.tiny) if left > 15 else "no time"
        print(f"== {name}", flush=True)
        for line in _lines(found[name]):
            print(f"  {line}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1))


def about() -> dict[str, str]:
    """What it ran on."""
    import torch_geometric

    try:
        import triton
    except ImportError:
        triton = None
    return {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "triton": "none" if triton is None else triton.__version__,
        "torch_geometric": torch_geometric.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _section(name: str, limit: float, *, tiny: bool) -> Any:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.run", "--section", name]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*command, *(["--tiny"] if tiny else [])], stdout=out, stderr=errors)
        try:
            ended = f"exit {process.wait(timeout=limit)}"
        except subprocess.TimeoutExpired:
            process.kill()
            ended = f"over {limit:.0f} s"
        out.seek(0)
        errors.seek(0)
        lines = [line for line in out.read().splitlines(keepends=True) if line.endswith("\n")]
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        if ended != "exit 0":  # results until then count
            found |= {"failed": ended, "output": errors.read()[-3000:]}
    return found | {"took": round(time.monotonic() - began, 1)}


def _tell(found: dict[str, Any]) -> None:
    """Pass the results so far to the process that waits for the section."""
    print(json.dumps(found), flush=True)


def _lines(found: Any) -> list[str]:
    if not isinstance(found, dict):
        return [str(found)]
    return [f"{key}: {value}" for key, value in found.items()]


def _checked(scale: int) -> dict[str, Any]:
    models = check.MODELS if scale == 1 else check.MODELS[2:3]
    found = check.check(DEVICE, models, 900 if scale == 1 else 200)
    bad = {name: result for name, result in found.items() if not all(map(bool, list(result.values())[1:]))}
    worst = max(result["off"] for name, result in found.items() if "fp32" in name)
    return {
        "cases": len(found),
        "all agree": not bad,
        "bad": bad,
        "worst fp32": worst,
        "worst bf16": max(result["off"] for name, result in found.items() if "bf16" in name),
        "each": found,
    }


def _epochs(
    kind: str,
    hidden: int,
    scale: int,
    runs: list[tuple[Model, int, TableFormat, int, str]],
    rivals: list[tuple[Model, int, str]],
    epochs: int,
) -> dict[str, Any]:
    """Seconds of an epoch: ours as (model, layers, tables, chunks, how), then torch_geometric's."""
    matrix = make(kind, DEVICE, scale)
    graphs = {}
    found: dict[str, Any] = {"nodes": matrix.num_rows, "entries": matrix.num_entries, "hidden": hidden}
    for precision in ("highest", "high"):  # products of rows and weights: fp32, then tf32
        torch.set_float32_matmul_precision(precision)
        suffix = "" if precision == "highest" else ", tf32 products"
        for model, layers, tables, chunks, how in runs:
            if precision == "high" and (chunks > 1 or how == EAGER):
                continue
            if chunks not in graphs:
                graphs[chunks] = ours.prepared(matrix, chunks)
            name = f"ours {model}-{layers} {tables} K={chunks} {how}{suffix}"
            build = partial(ours.Ours, model, layers, hidden, graphs[chunks], DEVICE, tables)
            found[name] = _timed(partial(build, graphs=how == GRAPHS), epochs)
            _tell(found)
        for model, layers, form in rivals:
            if precision == "high" and form not in ("cusparse", "recorded"):
                continue
            name = f"torch_geometric {model}-{layers} {form}{suffix}"
            found[name] = _timed(partial(rival.Rival, form, model, layers, hidden, matrix), epochs)
            _tell(found)
    torch.set_float32_matmul_precision("highest")
    if DEVICE.type == "cuda":
        found["limit"] = _limits(matrix, hidden, runs, found)
    return found


def _limits(
    matrix: Csr, hidden: int, runs: list[tuple[Model, int, TableFormat, int, str]], found: dict[str, Any]
) -> dict[str, Any]:
    """Least seconds of GCNII's epochs in one chunk, and their share of those measured."""
    at = limit.rates(hidden, matrix.num_rows, DEVICE)
    limits: dict[str, Any] = {"rates": at}
    for model, layers, tables, chunks, how in runs:
        for products, suffix in (("fp32", ""), ("tf32", ", tf32 products")):
            name = f"ours {model}-{layers} {tables} K={chunks} {how}{suffix}"
            if model == "gcnii" and chunks == 1 and "seconds" in found.get(name, {}):
                least = limit.limit(matrix, layers, hidden, 4 if tables == "fp32" else 2, products, at)
                limits[name] = {"least": least, "share": least / found[name]["seconds"]}
    return limits


def _timed(build: Any, epochs: int) -> dict[str, Any]:
    try:
        trainer = build()
        result: dict[str, Any] = epoch_seconds(trainer.step, DEVICE, epochs)
        if isinstance(trainer, ours.Ours) and DEVICE.type == "cuda":
            result |= _profile(trainer) | {"losses": trainer.losses[:4]}
    except (RuntimeError, torch.OutOfMemoryError, FloatingPointError) as error:
        result = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
    if DEVICE.type == "cuda":
        trainer = None
        torch.cuda.empty_cache()
    return result


def _profile(trainer: ours.Ours) -> dict[str, Any]:
    """Kernels by time, launches and waits of one epoch."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiled:
        trainer.step()
        torch.cuda.synchronize()
    events = profiled.key_averages()
    kernels = [
        (event.key[:60], event.count, round(event.self_device_time_total / 1e3, 3))
        for event in events
        if event.self_device_time_total > 0 and not event.key.startswith(("aten::", "Optimizer"))
    ]
    kernels.sort(key=lambda row: -row[2])
    return {
        "device_ms": round(sum(row[2] for row in kernels), 3),
        "launches": sum(event.count for event in events if "Launch" in event.key),
        "waits": sum(event.count for event in events if "ynchronize" in event.key),
        "top": kernels[:8],
    }


def _planted(scale: int) -> dict[str, Any]:
    layers = 32 if scale == 1 else 4
    return _epochs(
        "planted",
        128,
        scale,
        [
            ("gcnii", layers, "fp32", 1, EAGER),
            ("gcnii", layers, "fp32", 1, GRAPHS),
            ("gcnii", layers, "bf16", 1, GRAPHS),
            ("gcnii", layers, "fp32", 32, EAGER),
            ("gcnii", layers, "fp32", 32, GRAPHS),
            ("gcnii", layers, "bf16", 32, GRAPHS),
        ],
        [("gcnii", layers, form) for form in rival.FORMS],
        10 if scale == 1 else 1,
    )


def _reddit(scale: int) -> dict[str, Any]:
    layers = 32 if scale == 1 else 4
    return _epochs(
        "reddit",
        100,
        scale,
        [
            ("gcnii", layers, "fp32", 1, GRAPHS),
            ("gcnii", layers, "bf16", 1, GRAPHS),
            ("gcn", layers, "fp32", 1, GRAPHS),
        ],
        [("gcnii", layers, "cusparse"), ("gcnii", layers, "recorded"), ("gcn", layers, "cusparse")],
        3 if scale == 1 else 1,
    )


def _others(scale: int) -> dict[str, Any]:
    layers = 32 if scale == 1 else 4
    return _epochs(
        "planted",
        128,
        scale,
        [("resgcn", layers, "fp32", 1, GRAPHS), ("gcn", 3, "fp32", 1, GRAPHS), ("gcn", 3, "bf16", 1, GRAPHS)],
        [
            ("resgcn", layers, "cusparse"),
            ("resgcn", layers, "recorded"),
            ("gcn", 3, "cusparse"),
            ("gcn", 3, "recorded"),
        ],
        10 if scale == 1 else 1,
    )


def _pulls(scale: int) -> dict[str, Any]:
    found: dict[str, Any] = pulls.rates(DEVICE) if scale == 1 else {}
    for kind in KINDS:
        for width in (100, 128) if kind == "reddit" else (64, 128):
            found[f"{kind}, {width} columns"] = pulls.race(kind, width, DEVICE, scale)
            _tell(found)
    return found


def _stages(scale: int) -> dict[str, Any]:
    """One and two stages that share the device, by the command line; memory predicted and measured."""
    nodes, layers = (20_000, 32) if scale == 1 else (600, 4)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, flags in {"one stage": [], "two stages": ["--stages", "2", "--chunks", "8"]}.items():
            out = Path(folder) / name.replace(" ", "-")
            command = [
                *(sys.executable, "-m", "gnnpipe", "train", "--model", "gcnii", "--device", DEVICE.type),
                *("--synthetic.num_nodes", str(nodes), "--layers", str(layers), "--hidden", "128"),
                *("--epochs", "6", "--eval-every", "6", "--out", str(out), *flags),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                found[name] = {"failed": done.stderr[-2000:]}
                continue
            records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
            summary = json.loads((out / "summary.json").read_text())
            found[name] = {
                "losses": [record["loss"] for record in records],
                "seconds": [round(record["seconds"], 4) for record in records],
                "peak_memory_bytes": summary["peak_memory_bytes"],
                "predictions": json.loads((out / "plan.json").read_text())["predictions"],
            }
    return found


SECTIONS = {
    "check": _checked,
    "planted": _planted,
    "reddit": _reddit,
    "stages": _stages,
    "pulls": _pulls,
    "others": _others,
}

if __name__ == "__main__":
    main()
