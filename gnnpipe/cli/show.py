"""``gnnpipe show FOLDER``: print a run's results and draw them, or print what is in a graph folder."""

from __future__ import annotations

from pathlib import Path

from gnnpipe.cli.parser import Parser
from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.config.values import Value
from gnnpipe.records.seeds import runs_by_seed
from gnnpipe.records.taking import check_is_run

DESCRIPTION = """Show what a run reached: accuracy, time and bytes as a table, learning curves and the
breakdown of an epoch as a picture (RUN/report.png; needs matplotlib: pip install 'gnnpipe[plot]').
Everything is read from the run's folder, so it works for a run that is still going on or was interrupted.

Of the folder of several seeds (train --seeds) it prints a row for each, the mean and the standard deviation.
Of a graph folder it prints what gnnpipe import has counted: nodes, edges, degrees, classes, features."""


def run(arguments: list[str]) -> int:
    """Show as ``arguments`` say; return the exit code."""
    parser = Parser("gnnpipe show", description=DESCRIPTION)
    parser.add_argument("run", type=Value("run", str), help="Folder of a run, of seeds, or of a graph.")
    parser.add_argument("--json", action="store_true", help="Print summary.json instead of the table.")
    chosen = parser.read(arguments)
    if (Path(chosen.run) / GRAPH_FILE).exists():
        from gnnpipe.report.graph import print_graph

        return print_graph(Path(chosen.run), as_json=chosen.json)
    if seeds := runs_by_seed(Path(chosen.run)):
        from gnnpipe.report.seeds import show_seeds

        return show_seeds(seeds, as_json=chosen.json)
    check_is_run(Path(chosen.run), "run")
    from gnnpipe.report.show import show  # PyTorch takes seconds to import

    return show(chosen.run, as_json=chosen.json)
