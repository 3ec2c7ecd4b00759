"""``gnnpipe compare``: runs or plans side by side."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from gnnpipe.cli.parser import build, make_parser
from gnnpipe.cli.roots import check_root
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import HaloMode, Initial, RunConfig, TableFormat, WireFormat
from gnnpipe.config.values import Value
from gnnpipe.errors import ConfigError, did_you_mean, shown
from gnnpipe.records.taking import check_is_run
from gnnpipe.run.early import check_plan
from gnnpipe.system.resources import threads_per_rank

DESCRIPTION = """Put runs side by side: accuracy, median epoch, speed-up, bytes by kind, where the time goes,
peak memory. Name the folders of finished runs, or give train's flags and --plans: what is missing is then
run, one plan after the other, with equally many threads a process and everything else equal. The first one
is what the others are compared with. --out is the folder of the plans' runs (by default runs/compare)."""

EPILOG = """Examples: gnnpipe compare runs/a runs/b
          gnnpipe compare --plans 1x4 1x4+stale 2x2 4x1 --dataset Cora --epochs 100 --out runs/plans"""

USUAL = (
    "plans", "json", "dataset", "root", "model", "layers", "hidden", "dropout", "epochs", "lr", "device",
    "out",
)  # fmt: skip
"""Flags that most comparisons get by with."""

DEFAULT_OUT = "runs/compare"

# What may stand behind a plan, and the flag that it sets.
WORDS = {
    prefix + word: (field, word)
    for field, prefix, words in (
        ("halo", "", HaloMode),
        ("initial", "", Initial),
        ("wire", "", WireFormat),
        ("tables", "tables-", TableFormat),
    )
    for word in get_args(words)
}


@dataclass(frozen=True)
class PlanName:
    """A plan as it is written: stages x parts, perhaps chunks, and words that change one setting each."""

    text: str
    changes: dict[str, Any]
    """Fields of the config."""

    @classmethod
    def parse(cls, text: str) -> PlanName:
        """``4x1``, ``2x2x16`` (with 16 chunks), ``1x4+stale``, ``4x1+recompute+int8``; raises ConfigError."""
        numbers, *words = text.split("+")
        found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})(?:x([1-9]\d{0,8}))?", numbers)
        known = [WORDS[word] for word in words if word in WORDS]
        if not found or len(dict(known)) < len(words):
            hints = [did_you_mean(word, WORDS) for word in words if word not in WORDS]
            hint = next((f"{hint} Write" for hint in hints if hint), "; write")
            raise ConfigError(
                f"plans: '{shown(text)}' is no plan{hint} stages x parts as in 4x1, with a number of chunks "
                f"as in 4x1x32, with words as in 4x1+recompute+int8 ({', '.join(WORDS)})"
            )
        chunks = {"chunks": int(found[3])} if found[3] else {}
        changes = {"stages": int(found[1]), "parts": int(found[2]), "halo": "exact", "plan": "given"}
        return cls(text, changes | chunks | dict(known))

    @property
    def num_ranks(self) -> int:
        """Processes that it needs."""
        return int(self.changes["stages"] * self.changes["parts"])


def run(arguments: list[str]) -> int:
    """Compare as ``arguments`` say; return the exit code."""
    parser = make_parser(
        "compare", RunConfig, DESCRIPTION, EPILOG, " [RUN ...] [--plans PLAN ...]", usual=USUAL
    )
    parser.add_argument("runs", nargs="*", type=Value("runs", str), help="Folders of finished runs.")
    parser.add_argument(
        "--plans", nargs="+", type=str, metavar="PLAN",
        help="Plans to run: stages x parts, as in 4x1 1x4 2x2; with a number of chunks as in 4x1x32; with "
        "last epoch's halo as in 1x4+stale; with recomputed initial rows or fewer bytes a row as in "
        "4x1+recompute+int8 or 1x4+tables-bf16. They take the place of the flags of the same names.",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    chosen = parser.read(arguments)
    if chosen.plans and chosen.runs:
        raise ConfigError(
            f"runs: '{shown(chosen.runs[0])}' and --plans can't go together; give one of the two"
        )
    plans = [PlanName.parse(text) for text in chosen.plans or ()]
    if len(plans or chosen.runs or ()) < 2:
        raise ConfigError("runs: there is nothing to compare; name two runs or more, or two --plans or more")
    config = build(RunConfig, chosen)
    check_root(arguments, config.dataset, config.root)
    if chosen.runs and config != RunConfig():
        raise ConfigError(
            f"runs: '{shown(chosen.runs[0])}' is run already, so flags of a run say nothing about it; leave "
            "them out, or give --plans"
        )
    folders = [Path(path) for path in chosen.runs or ()]
    for folder in folders:
        check_is_run(folder, "runs")
    if plans:
        with _stdout_kept_clean() if chosen.json else nullcontext():
            folders = _run_missing(config, plans)
    from gnnpipe.report.compare import compare  # PyTorch takes seconds to import

    return compare(folders, as_json=chosen.json)


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
    most_ranks = max(plan.num_ranks for plan in plans)
    threads = config.threads or threads_per_rank(most_ranks)
    configs = [
        check_config(replace(config, **plan.changes, threads=threads, out=str(folder / plan.text)))
        for plan in plans
    ]
    for item in configs:
        check_plan(item)
    from gnnpipe.report.console import ConsoleReporter  # PyTorch takes seconds to import
    from gnnpipe.run.session import train_missing

    train_missing(configs, ConsoleReporter())
    return [Path(str(item.out)) for item in configs]
