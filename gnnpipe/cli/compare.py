"""``gnnpipe compare``: runs or plans side by side."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from gnnpipe.cli.parser import Parser, build, given, make_parser
from gnnpipe.cli.roots import check_root
from gnnpipe.config.checks import check_config
from gnnpipe.config.code.options import with_given
from gnnpipe.config.run import Compute, HaloMode, Initial, RunConfig, TableFormat, WireFormat
from gnnpipe.config.values import Value
from gnnpipe.errors import ConfigError, did_you_mean, shown
from gnnpipe.files.reading import Content
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
    "plans", "json", "dataset", "graph", "root", "model", "layers", "hidden", "dropout", "epochs", "lr",
    "device", "out",
)  # fmt: skip
"""Flags that ``--help`` explains; most comparisons need no others."""

DEFAULT_OUT = "runs/compare"

# Words that may follow a plan, and the field and value that each sets: "stale" is halo=stale.
WORDS = {
    prefix + word: (field, word)
    for field, prefix, words in (
        ("halo", "", HaloMode),
        ("initial", "", Initial),
        ("wire", "", WireFormat),
        ("tables", "tables-", TableFormat),
        ("compute", "compute-", Compute),
    )
    for word in get_args(words)
}


@dataclass(frozen=True)
class PlanName:
    """A plan as a user writes it: stages x parts, perhaps chunks, and words that change one setting each."""

    text: str
    changes: Content
    """Fields of the config that the plan sets, with their values."""

    @classmethod
    def parse(cls, text: str) -> PlanName:
        """``4x1``, ``2x2x16`` (with 16 chunks), ``1x4+stale``, ``4x1+recompute+int8``; raises ConfigError."""
        numbers, *words = text.split("+")
        sizes = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})(?:x([1-9]\d{0,8}))?", numbers)
        known = [WORDS[word] for word in words if word in WORDS]
        # two words for one field leave one entry, and are refused like a word that is unknown
        if not sizes or len(dict(known)) < len(words):
            hints = [did_you_mean(word, WORDS) for word in words if word not in WORDS]
            hint = next((f"{hint} Write" for hint in hints if hint), "; write")
            raise ConfigError(
                f"plans: '{shown(text)}' is no plan{hint} stages x parts as in 4x1, with a number of chunks "
                f"as in 4x1x32, with words as in 4x1+recompute+int8 ({', '.join(WORDS)})"
            )
        chunks = {"chunks": int(sizes[3])} if sizes[3] else {}
        changes = {"stages": int(sizes[1]), "parts": int(sizes[2]), "halo": "exact", "plan": "given"}
        return cls(text, changes | chunks | dict(known))

    @property
    def num_ranks(self) -> int:
        """Processes that the plan needs."""
        return int(self.changes["stages"] * self.changes["parts"])


def run(arguments: list[str]) -> int:
    """Compare as ``arguments`` say; return the exit code."""
    chosen = _make_parser().read(arguments)
    plans = [PlanName.parse(text) for text in chosen.plans or ()]
    folders = [Path(path) for path in chosen.runs or ()]
    _check_operands(folders, plans)
    config = with_given(build(RunConfig, chosen), given(arguments))
    check_root(arguments, config)
    if plans:
        with _stdout_kept_clean() if chosen.json else nullcontext():
            folders = _run_missing(config, plans)
    else:
        _check_runs(folders, flags_given=config != RunConfig())
    from gnnpipe.report.compare import compare  # PyTorch takes seconds to import

    return compare(folders, as_json=chosen.json)


def _make_parser() -> Parser:
    """Train's flags, and those of the comparison itself."""
    parser = make_parser(
        "compare", RunConfig, DESCRIPTION, EPILOG, " [RUN ...] [--plans PLAN ...]", usual=USUAL
    )
    parser.add_argument("runs", nargs="*", type=Value("runs", str), help="Folders of finished runs.")
    parser.add_argument(
        "--plans", nargs="+", type=str, metavar="PLAN",
        help="Plans to run: stages x parts, as in 4x1 1x4 2x2; with a number of chunks as in 4x1x32; with "
        "last epoch's halo as in 1x4+stale; with recomputed initial rows or fewer bytes a row as in "
        "4x1+recompute+int8 or 1x4+tables-bf16; with products in tf32 as in 1x1+compute-tf32. They take the "
        "place of the flags of the same names.",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    return parser


def _check_operands(folders: list[Path], plans: list[PlanName]) -> None:
    """Refuse runs beside plans, and fewer than two of either."""
    if plans and folders:
        raise ConfigError(
            f"runs: '{shown(str(folders[0]))}' and --plans can't go together; give one of the two"
        )
    if len(plans or folders) < 2:
        raise ConfigError("runs: there is nothing to compare; name two runs or more, or two --plans or more")


def _check_runs(folders: list[Path], *, flags_given: bool) -> None:
    """Refuse flags of a run, which change nothing about finished ones, and folders that are no runs."""
    if flags_given:
        raise ConfigError(
            f"runs: '{shown(str(folders[0]))}' is run already, so flags of a run say nothing about it; leave "
            "them out, or give --plans"
        )
    for folder in folders:
        check_is_run(folder, "runs")


@contextmanager
def _stdout_kept_clean() -> Iterator[None]:
    """Send the output of runs to stderr, so that stdout holds nothing but JSON."""
    sys.stdout.flush()
    # The file itself is exchanged: processes that are started inherit it, but not an object like sys.stdout.
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _run_missing(config: RunConfig, plans: list[PlanName]) -> list[Path]:
    """Check all plans, then run those that have no finished run in their folder yet."""
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
    for resolved in configs:
        check_plan(resolved)
    from gnnpipe.report.console import ConsoleReporter  # PyTorch takes seconds to import
    from gnnpipe.run.session import train_missing

    train_missing(configs, ConsoleReporter())
    return [Path(str(resolved.out)) for resolved in configs]
