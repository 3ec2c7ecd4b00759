"""``gnnpipe import SOURCE``: write a graph folder from a user's files."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from gnnpipe.cli.parser import build, make_parser
from gnnpipe.config.checks import check_import_config
from gnnpipe.config.importing import ImportConfig
from gnnpipe.config.values import Value
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.scratch import place_for, scratch_folder

DESCRIPTION = """Read a graph of your own and write it to a graph folder, which gnnpipe train --graph takes.

SOURCE is a file or a folder: tables of edges and nodes (CSV, TSV, Parquet), npz, SciPy's npz, Matrix Market
(.mtx), .npy files, a torch_geometric Data (.pt), folders of GraphSAINT, GraphBolt and OGB. Its content
decides which. Ids of any type are numbered, and kept. Columns with usual names are found; each guess is
printed. What was read is counted and printed: look at it before you train.

200 million edges take less than 4 GiB of memory; the disk of --out needs about 12 bytes for each edge while
they are sorted. The folder appears when it is complete: an import that is stopped leaves nothing behind."""

EPILOG = """Examples: gnnpipe import edges.csv --nodes people.csv --label group
          gnnpipe import my-folder --undirected --out graphs/mine
          gnnpipe import edges.parquet --features degree
          gnnpipe show graphs/mine
          gnnpipe train --graph graphs/mine --model gcnii --layers 16"""

DEFAULT_PLACE = "graphs"


def run(arguments: list[str]) -> int:
    """Import as ``arguments`` say; return the exit code."""
    parser = make_parser("import", ImportConfig, DESCRIPTION, EPILOG, operands=" SOURCE")
    parser.add_argument("SOURCE", type=Value("SOURCE", str), help="File or folder to read.")
    chosen = parser.read(arguments)
    config = check_import_config(build(ImportConfig, chosen))
    source = Path(chosen.SOURCE)
    source = source if source.name else source.absolute()  # "." has a name, too
    out = Path(config.out or default_out(source))
    from gnnpipe.graph.folder.place import check_may_write  # PyTorch takes seconds to import
    from gnnpipe.graph.folder.write import write_graph
    from gnnpipe.graph.sources.detect import read_source
    from gnnpipe.report.busy import busy
    from gnnpipe.report.graph import graph_lines

    check_may_write(out, overwrite=config.overwrite)
    with place_for(out) as parent, scratch_folder(parent) as scratch:
        with busy(f"reading {shown(source.name)}"):
            raw = read_source(source, config, scratch, _say)
        write_graph(raw, out, config, scratch, busy, source=source.name)
    for line in graph_lines(out):
        _say(line)
    _say(next_command(out))
    return 0


def default_out(source: Path) -> Path:
    """Where a graph goes unless ``--out`` says so: graphs/NAME, by the name of the source.

    Raises:
        ConfigError: the source has no name, as ``..``.
    """
    name = source.name.split(".")[0] or source.absolute().name.split(".")[0]
    if not name:
        raise ConfigError(f"out: '{shown(str(source))}' has no name to call the folder by; give --out FOLDER")
    return Path(DEFAULT_PLACE) / name


def next_command(out: Path) -> str:
    """The command that a graph is imported for, with the flags that this one needs."""
    from gnnpipe.graph.folder.read import read_graph_file

    report, folder = read_graph_file(out).report, shlex.quote(str(out))
    if report.labels is None:
        return f"plan with it: gnnpipe plan --graph {folder} --devices 8 (to train, give labels)"
    return f"train on it: gnnpipe train --graph {folder}{'' if report.features else ' --features degree'}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
