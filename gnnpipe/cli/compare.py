"""``gnnpipe compare``: runs or plans side by side."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from gnnpipe.base.config import HaloMode, RunConfig
from gnnpipe.base.errors import ConfigError
from gnnpipe.cli.parser import build, make_parser, read
from gnnpipe.train.checks import check_config

DESCRIPTION = """Put runs side by side: accuracy, median epoch, speed-up, bytes by kind, where the time goes,
peak memory. Name the folders of finished runs, or give train's flags and --plans: what is missing is then
run, one plan after the other, with equally many threads a process and everything else equal. The first one
is what the others are compared with. --out is the folder of the plans' runs (by default runs/compare)."""

EPILOG = """Examples: gnnpipe compare runs/a runs/b
          gnnpipe compare --plans 1x4 1x4+stale 2x2 4x1 --dataset Cora --epochs 100 --out runs/plans"""

DEFAULT_OUT = "runs/compare"


@dataclass(frozen=True)
class PlanName:
    """A plan as it is written: stages x parts, and perhaps chunks and a stale halo."""

    text: str
    stages: int
    parts: int
    chunks: int | None
    halo: HaloMode

    @classmethod
    def parse(cls, text: str) -> PlanName:
        """``4x1``, ``2x2x16`` (with 16 chunks), ``1x4+stale``; raises ConfigError."""
        found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})(?:x([1-9]\d{0,8}))?(?:\+(\w+))?", text)
        if not found or (found[4] and found[4] not in get_args(HaloMode)):
            raise ConfigError(
                f"plans: '{text}' is no plan; write stages x parts as in 4x1, with a number of chunks as in "
                "4x1x32, with last epoch's halo as in 1x4+stale"
            )
        chunks = int(found[3]) if found[3] else None
        return cls(text, int(found[1]), int(found[2]), chunks, found[4] or "exact")  # type: ignore[arg-type]


def run(arguments: list[str]) -> int:
    """Compare as ``arguments`` say; return the exit code."""
    parser = make_parser("compare", RunConfig, DESCRIPTION, EPILOG, " [RUN ...] [--plans PLAN ...]")
    parser.add_argument("runs", nargs="*", type=str, help="Folders of finished runs.")
    parser.add_argument(
        "--plans", nargs="+", type=str, metavar="PLAN",
        help="Plans to run: stages x parts, as in 4x1 1x4 2x2; with a number of chunks as in 4x1x32; with "
        "last epoch's halo as in 1x4+stale. They take the place of --stages, --parts and --halo.",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    chosen = read(parser, arguments)
    if chosen.plans and chosen.runs:
        raise ConfigError(f"runs: '{chosen.runs[0]}' and --plans can't go together; give one of the two")
    plans = [PlanName.parse(text) for text in chosen.plans or ()]
    if len(plans or chosen.runs or ()) < 2:
        raise ConfigError("runs: there is nothing to compare; name two runs or more, or two --plans or more")
    config = build(RunConfig, chosen)
    if chosen.runs and config != RunConfig():
        raise ConfigError(
            f"runs: '{chosen.runs[0]}' is run already, so flags of a run say nothing about it; leave them "
            "out, or give --plans"
        )
    folders = [Path(path) for path in chosen.runs or ()]
    if plans:
        with _stdout_kept_clean() if chosen.json else nullcontext():
            folders = _run_missing(config, plans)
    result: int = importlib.import_module("gnnpipe.report.compare").compare(folders, as_json=chosen.json)
    return result


@contextmanager
def _stdout_kept_clean() -> Iterator[None]:
    """What runs and their processes say goes to stderr, so that stdout holds nothing but JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _run_missing(config: RunConfig, plans: list[PlanName]) -> list[Path]:
    """Check all plans, then run those whose folder holds no such run yet."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        raise ConfigError("plans: compare starts its processes itself; run it without torchrun")
    folder = Path(config.out or DEFAULT_OUT)
    if (folder / "config.yaml").exists():
        raise ConfigError(f"out: '{folder}' is a run itself; name a folder for the plans' runs")
    most_ranks = max(plan.stages * plan.parts for plan in plans)
    threads = config.threads or max(1, (os.cpu_count() or 1) // most_ranks)
    configs = [
        check_config(
            replace(
                config,
                stages=plan.stages,
                parts=plan.parts,
                chunks=config.chunks if plan.chunks is None else plan.chunks,
                halo=plan.halo,
                threads=threads,
                out=str(folder / plan.text),
            )
        )
        for plan in plans
    ]
    importlib.import_module("gnnpipe.cli.run").run_missing(configs)
    return [Path(str(item.out)) for item in configs]
