"""``gnnpipe train``: parse, then hand over to the run."""

from __future__ import annotations

import importlib

from gnnpipe.base.config import RunConfig
from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.train.checks import check_config

DESCRIPTION = """Train a deep GNN on one whole graph. The layers are cut into --stages and the graph into
--parts, and --chunks of it stream through the stages as a pipeline; stages x parts processes run. --stages
alone is a pipeline, --parts alone graph parallelism, both together the hybrid. The command starts its
processes itself; under torchrun it uses those that it is given. Every run leaves a folder with its config,
records and best weights."""

EPILOG = """Example: gnnpipe train --dataset Cora --model gcnii --layers 32 --stages 2 --chunks 16"""


def run(arguments: list[str]) -> int:
    """Train as ``arguments`` say; return the exit code."""
    config = check_config(parse(make_parser("train", RunConfig, DESCRIPTION, EPILOG), RunConfig, arguments))
    # PyTorch takes seconds to import, so it waits until the flags are known to be good
    result: int = importlib.import_module("gnnpipe.cli.run").run(config)
    return result
