"""``gnnpipe plan``: simulate all plans and print the fastest."""

from __future__ import annotations

import sys

from gnnpipe.cli.parser import given, make_parser, parse
from gnnpipe.cli.roots import check_root
from gnnpipe.config.checks import check_plan_config
from gnnpipe.config.code.options import with_given
from gnnpipe.config.commands import PlanConfig
from gnnpipe.planner.hardware import load_hardware, outdated

DESCRIPTION = """Say which plan is fastest for a graph, a model and some devices, without having them: every
stages x parts x chunks is simulated, action by action as a run would execute them, on hardware that is
described by what it computes and what its links carry. Plans that don't fit into memory are thrown out.
Prints the best ones and the command that runs the first. gnnpipe profile measures this machine."""

EPILOG = """Examples: gnnpipe plan --dataset Physics --undirected --layers 32 --hidden 100 --devices 8
          gnnpipe plan --num-nodes 232965 --num-edges 114848857 --alpha 2.6 --layers 64 --hardware a100
          gnnpipe plan --dataset Cora --devices 2 --hardware here.json"""


def run(arguments: list[str]) -> int:
    """Plan as ``arguments`` say; return the exit code."""
    parser = make_parser("plan", PlanConfig, DESCRIPTION, EPILOG)
    config = check_plan_config(with_given(parse(parser, PlanConfig, arguments), given(arguments)))
    check_root(arguments, config)
    hardware = load_hardware(config.hardware)
    from gnnpipe.planner.question import question_of  # PyTorch takes seconds to import
    from gnnpipe.planner.search import search
    from gnnpipe.report.busy import busy
    from gnnpipe.report.plans import print_plans

    warning = outdated(hardware)
    if warning:
        sys.stderr.write(f"warning: {warning}\n")
    with busy("loading and cutting the graph" if config.num_nodes is None else "cutting"):
        question = question_of(config)
    with busy("simulating plans"):
        found = search(config, question, hardware)
    print_plans(found, config, question, hardware)
    return 0
