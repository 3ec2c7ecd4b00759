"""``gnnpipe predict RUN``: write a run's predictions, or its hidden rows, to a file."""

from __future__ import annotations

from pathlib import Path

from gnnpipe.cli.parser import build, make_parser
from gnnpipe.config.commands import PredictConfig
from gnnpipe.config.values import Value
from gnnpipe.errors import ConfigError
from gnnpipe.files.columns import check_columns_file
from gnnpipe.records.taking import check_is_run

DESCRIPTION = """Apply the best weights of a run: write what it predicts for each node, in the order and with
the ids of your files. The whole graph is read at once, as in an evaluation, over as many processes as the run
had; no process holds more than its own part of the rows. Another graph (--graph) needs the same features, and
no labels; its features and edges are treated as the run's own were."""

EPILOG = """Examples: gnnpipe predict runs/demo --out predictions.csv
          gnnpipe predict runs/demo --nodes test --out test.npz
          gnnpipe predict runs/demo --graph graphs/new --out new.parquet
          gnnpipe predict runs/demo --embed -1 --out rows.npz"""


def run(arguments: list[str]) -> int:
    """Predict as ``arguments`` say; return the exit code."""
    parser = make_parser("predict", PredictConfig, DESCRIPTION, EPILOG, operands=" RUN")
    parser.add_argument("RUN", type=Value("RUN", str), help="Folder of a run.")
    chosen = parser.read(arguments)
    config = build(PredictConfig, chosen)
    folder = Path(chosen.RUN)
    check_is_run(folder, "run")
    if config.out is None:
        raise ConfigError("out: it is missing; name a file that ends in .npz, .csv or .parquet")
    check_columns_file(Path(config.out), overwrite=config.overwrite)
    from gnnpipe.report.console import ConsoleReporter  # PyTorch takes seconds to import
    from gnnpipe.run.answers.ask import ask

    reporter = ConsoleReporter()
    answers = ask(folder, config, reporter)
    what = "predictions" if config.embed is None else "hidden rows"
    reporter.say(f"{what} of {len(answers.nodes):,} nodes in {config.out}")
    return 0
