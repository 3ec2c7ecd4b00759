"""``gnnpipe train``: read the flags, check them, and hand over to the run."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from gnnpipe.cli.parser import Parser, build, given, make_parser
from gnnpipe.cli.roots import check_root
from gnnpipe.config.checks import check_config
from gnnpipe.config.code.options import with_given
from gnnpipe.config.code.place import short_name
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.resume import check_resumed, stored_settings
from gnnpipe.config.run import RunConfig
from gnnpipe.config.values import Value
from gnnpipe.errors import ConfigError, StoppedError, shown
from gnnpipe.files.plain_yaml import dump_yaml
from gnnpipe.files.writing import write_file
from gnnpipe.records.seeds import check_holds_seeds, parse_seeds, seed_folder
from gnnpipe.records.taking import new_name
from gnnpipe.run.early import check_early, check_plan

DESCRIPTION = """Train a deep GNN on one whole graph. The layers are cut into --stages and the graph into
--parts, and --chunks of it stream through the stages as a pipeline; stages x parts processes run. --stages
alone is a pipeline, --parts alone graph parallelism, both together the hybrid. The command starts its
processes itself; under torchrun it uses those that it is given. Every run leaves a folder with its config,
records, best weights and checkpoints, from which --resume goes on."""

USUAL = (
    "dataset", "graph", "root", "model", "layers", "hidden", "dropout", "stages", "parts",
    "chunks", "plan", "epochs", "lr", "device", "out", "resume",
)  # fmt: skip
"""Flags that ``--help`` explains; most runs need no others."""

EPILOG = """Example: gnnpipe train --dataset Cora --model gcnii --layers 32 --stages 2 --chunks 16"""


def run(arguments: list[str]) -> int:
    """Train as ``arguments`` say; return the exit code."""
    chosen = _make_parser().read(arguments)
    config = with_given(build(RunConfig, chosen), given(arguments))
    if chosen.seeds is not None:
        return _run_seeds(config, parse_seeds(chosen.seeds), arguments)
    before = None
    if config.resume:
        _check_goes_on(config.out, arguments, overwrite=config.overwrite)
        before, config = _resumed(config.resume, arguments)
    check_root(arguments, config, config.resume)
    config = check_config(config)
    if before is not None:
        check_resumed(config, before)
    check_early(config)
    # PyTorch takes seconds to import, so it waits until the flags are known to be good
    from gnnpipe.report.console import ConsoleReporter
    from gnnpipe.run.session import train

    train(config, ConsoleReporter(), before)
    return 0


def _make_parser() -> Parser:
    parser = make_parser("train", RunConfig, DESCRIPTION, EPILOG, usual=USUAL)
    parser.add_argument(
        "--seeds", type=Value("seeds", str), metavar="SEEDS",
        help="Instead of --seed: one run for each seed, as 0..9 or 0,3,7, in OUT/seed-0 and so on, then a "
        "table with the mean and the standard deviation. Given again, it goes on with the runs that are "
        "missing; gnnpipe show OUT prints the table again.",
    )  # fmt: skip
    return parser


def _parse(arguments: list[str]) -> RunConfig:
    return with_given(build(RunConfig, _make_parser().read(arguments)), given(arguments))


def _run_seeds(config: RunConfig, seeds: tuple[int, ...], arguments: list[str]) -> int:
    """Train with each seed that has no finished run yet, and print the table; return the exit code."""
    _check_many(config, arguments)
    check_root(arguments, config)
    out = Path(config.out) if config.out else new_name(config.data_name, f"{short_name(config.model)}-seeds")
    check_holds_seeds(out)
    folders = {seed: seed_folder(out, seed) for seed in seeds}
    configs = [check_config(replace(config, seed=seed, out=str(path))) for seed, path in folders.items()]
    check_plan(configs[0])
    from gnnpipe.report.console import ConsoleReporter  # PyTorch takes seconds to import
    from gnnpipe.report.seeds import show_seeds
    from gnnpipe.run.session import train_missing

    reporter = ConsoleReporter()
    try:
        train_missing(configs, reporter)
    except StoppedError:
        reporter.remark(f"the same command with --out {out} goes on with the runs that are missing")
        raise
    return show_seeds(folders)


def _check_many(config: RunConfig, arguments: list[str]) -> None:
    """Refuse settings of a single run beside several seeds."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        raise ConfigError("seeds: train starts its processes itself for several; run it without torchrun")
    if config.resume:
        raise ConfigError(
            f"seeds: {shown(config.resume)} is a single run; to go on with several, give --seeds and --out "
            "as before"
        )
    if any(argument.partition("=")[0] == "--seed" for argument in arguments):  # one in a file gives way
        raise ConfigError(f"seed: {config.seed} contradicts --seeds; leave one of the two out")


def _check_goes_on(out: str | None, arguments: list[str], *, overwrite: bool) -> None:
    """Refuse flags that contradict ``--resume``; raises ConfigError."""
    for flag, value in (("out", out), ("overwrite", overwrite)):
        if value:
            raise ConfigError(
                f"{flag}: {value} contradicts --resume, which goes on in its folder; leave it out"
            )
    if any(argument.partition("=")[0] == "--config" for argument in arguments):
        raise ConfigError("config: --resume takes the settings of its own run; give flags instead")


def _resumed(folder: str, arguments: list[str]) -> tuple[Resolved, RunConfig]:
    """The settings of the run in ``folder``: as they were, and with the flags that are given on top."""
    # The parser reads the stored settings like a user's config file, so that flags win over them as usual. It
    # is given a copy: the settings as they were read and checked here.
    settings = stored_settings(Path(folder))
    with tempfile.TemporaryDirectory(prefix="gnnpipe-") as scratch:
        path = Path(scratch) / "config.yaml"
        write_file(path, dump_yaml(settings))
        try:
            before = check_config(_parse(["--config", str(path)]))
        except ConfigError as error:
            raise ConfigError(f"resume: the settings of '{folder}' can't be used: {error}") from None
        config = _parse(["--config", str(path), *arguments])
        if config.staleness.preset != before.staleness.preset:
            # the stored settings hold values that the old preset chose; the new one is to choose them anew
            write_file(path, dump_yaml({**settings, "staleness": {}, "optimizer": {}}))
            config = _parse(["--config", str(path), *arguments])
    return before, replace(config, out=folder)
