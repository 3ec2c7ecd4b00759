"""``gnnpipe profile``: measure this machine for ``gnnpipe plan``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.cli.roots import check_root
from gnnpipe.config.checks import check_profile_config
from gnnpipe.config.commands import ProfileConfig
from gnnpipe.errors import ConfigError

DESCRIPTION = """Measure what this machine's devices and links can do, for gnnpipe plan and train --plan auto:
seconds of each kind of layer by rows, edges and width, forward, backward and for gradients of weights; what
a chunk costs to start; how much slower a core is when all are busy; latency and bandwidth between two
processes. How fast rows are read depends on the graph, so measure on your own. Takes one to two minutes and
writes one JSON file."""

EPILOG = """Examples: gnnpipe profile
          gnnpipe profile --dataset Physics --models [gcnii] --hidden [100] --out physics.json"""


def run(arguments: list[str]) -> int:
    """Measure as ``arguments`` say; return the exit code."""
    parser = make_parser("profile", ProfileConfig, DESCRIPTION, EPILOG)
    config = check_profile_config(parse(parser, ProfileConfig, arguments))
    check_root(arguments, config)
    path = Path(config.out)
    if path.exists() and not config.overwrite:
        raise ConfigError(f"out: '{path}' exists; give --overwrite, or another --out")
    if path.exists() and not path.is_file():
        raise ConfigError(f"out: '{path}' is no file; give another --out")
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        raise ConfigError(f"out: the folder '{path.parent}' can't be written to; give another --out")
    if not path.parent.is_dir():
        raise ConfigError(f"out: the folder '{path.parent}' does not exist; make it, or give another --out")
    from gnnpipe.planner.profile import profile  # PyTorch takes seconds to import
    from gnnpipe.report.profile import describe

    found = profile(config)
    found.hardware.save(path)
    for line in describe(found):
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"written to {path}; use it with gnnpipe plan --hardware {path}\n")
    return 0
