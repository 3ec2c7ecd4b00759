"""``gnnpipe volume``: print the bytes that every plan would send, without training."""

from __future__ import annotations

from gnnpipe.cli.parser import given, make_parser, parse
from gnnpipe.cli.roots import check_root
from gnnpipe.config.checks import check_volume_config
from gnnpipe.config.code.options import with_given
from gnnpipe.config.commands import VolumeConfig

DESCRIPTION = """Print what an epoch sends under every plan (stages x parts) for a number of devices, without
training: rows between stages, boundary rows between parts, gradients of weights, and how many times less
that is than graph parallelism (1 x devices) sends. Bytes are of float32 rows, summed over all devices; a run
counts the same, to the byte."""

EPILOG = """Examples: gnnpipe volume --dataset Cora --model gcnii --layers 32 --hidden 100 --devices 8
          gnnpipe volume --num-nodes 232965 --model gcn --layers 32 --hidden 100 --devices 8"""


def run(arguments: list[str]) -> int:
    """Print the volumes as ``arguments`` say; return the exit code."""
    parser = make_parser("volume", VolumeConfig, DESCRIPTION, EPILOG)
    config = check_volume_config(with_given(parse(parser, VolumeConfig, arguments), given(arguments)))
    check_root(arguments, config)
    from gnnpipe.planner.volumes import volumes  # PyTorch takes seconds to import
    from gnnpipe.report.busy import busy
    from gnnpipe.report.volumes import print_volumes

    with busy("loading and cutting the graph"):
        found = volumes(config)
    print_volumes(found, config)
    return 0
