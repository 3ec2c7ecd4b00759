"""``gnnpipe COMMAND``: find the command, run it, turn errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import gnnpipe
from gnnpipe.errors import (
    ConfigError,
    GnnpipeError,
    StoppedError,
    UserError,
    exit_code,
    not_known,
    shown,
)
from gnnpipe.system.failures import advice, reason
from gnnpipe.system.interruption import ended_at_once
from gnnpipe.system.main_module import check_guard
from gnnpipe.system.pages import ask_for_huge_pages
from gnnpipe.system.parent import ended_with
from gnnpipe.system.streams import patient_streams

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
# Longest error line, in characters; it may repeat parts of a file.
MOST_PRINTED = 2000


COMMANDS = {
    "import": "read a graph of your own into a graph folder",
    "train": "train a deep GNN on one graph over several processes",
    "predict": "write what a run predicts for the nodes of a graph, or its hidden rows",
    "compare": "put runs or plans side by side, and run what is missing",
    "plan": "say which plan to use, by simulation",
    "profile": "measure what this machine can do, for plan",
    "volume": "print what every plan would send, without training",
    "show": "show what a run reached, or what is in a graph folder",
    "export": "write a run's model as a torch_geometric module",
    "cache": "list or remove the prepared graphs that train --cache keeps",
}

DESCRIPTION = """\
gnnpipe trains deep graph neural networks on one whole graph over several devices.

It cuts the layers into stages and streams chunks of the graph through them, so that what is sent does not
grow with the depth of the network. Stages may in turn be groups of processes that hold one part of the
graph each.
"""

EXAMPLES = """\
examples:
  gnnpipe train --stages 2                                 the built-in graph, two processes
  gnnpipe train --dataset Cora --model gcnii --layers 32   a data set that torch_geometric knows
  gnnpipe import my-folder --out graphs/mine               tables or arrays of your own, checked and counted
  gnnpipe train --graph graphs/mine                        train on them
  gnnpipe train --config runs/demo/config.yaml --seed 1    an earlier run again, with another seed
  torchrun --nproc-per-node 2 -m gnnpipe train --stages 2  under a launcher of your own
  gnnpipe plan --dataset Cora --devices 8                  which plan to use, and how fast it would be
  gnnpipe volume --dataset Cora --devices 4                what each plan would send in an epoch
  gnnpipe predict runs/demo --out predictions.csv          what a run predicts for each node
  gnnpipe compare --plans 2x1 1x2 --layers 8 --epochs 20   a pipeline against graph parallelism
  gnnpipe train --seeds 0..9 --out runs/ten                ten seeds, with mean and standard deviation
  gnnpipe show runs/demo                                   what a run reached
  gnnpipe show graphs/mine                                 what is in a graph folder
  gnnpipe export runs/demo --out exported                  the model as one Python file with its weights

gnnpipe COMMAND --help explains a command and its flags; where there are many, --help all explains all.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 done, 1 failed, 2 bad input, 128 and the signal's number
    where one told this process to end (130 for Ctrl-C, 143 for SIGTERM).

    Raises:
        ConfigError: a rank imports a script that starts its run whenever it is imported.
    """
    check_guard()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    ask_for_huge_pages()
    code = EXIT_FAILED
    # A rank ends with torchrun. Other launchers may be gone as soon as they have started their processes.
    alone = ended_with(os.getppid()) if "TORCHELASTIC_RUN_ID" in os.environ else nullcontext()
    try:
        with alone, patient_streams():
            code = _guarded(arguments)
    except OSError as error:
        sys.stderr.write(f"gnnpipe: error: not all output could be written ({error.strerror})\n")
        code = code or EXIT_FAILED
    return code


def _guarded(arguments: list[str]) -> int:
    """Turn errors and signals into one line and an exit code."""
    try:
        with ended_at_once():
            return _dispatch(arguments)
    except GnnpipeError as error:
        text = shown(str(error), MOST_PRINTED) if isinstance(error, UserError) else error
        if not error.said:
            sys.stderr.write(f"gnnpipe: error: {text}\n")
        return exit_code(error)
    except MemoryError as error:
        sys.stderr.write(f"gnnpipe: error: out of memory ({error}); use a smaller graph or --hidden\n")
        return EXIT_FAILED
    except StoppedError as error:
        if error.words is not None:
            sys.stderr.write(f"\n{error}\n")
        return 128 + error.number
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED
    except OSError as error:  # that no command explains itself
        sys.stderr.write(f"gnnpipe: error: {reason(error)}; {advice(error)}\n")
        return EXIT_FAILED


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(_overview())
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"gnnpipe {gnnpipe.__version__}\n")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise ConfigError(f"command: {not_known(name, COMMANDS, 'use')}")
    return _find(name)(arguments[1:])


def _find(name: str) -> Callable[[list[str]], int]:
    """Import one command; the others import what it does not need."""
    if name == "import":
        from gnnpipe.cli.import_graph import run
    elif name == "train":
        from gnnpipe.cli.train import run
    elif name == "predict":
        from gnnpipe.cli.predict import run
    elif name == "compare":
        from gnnpipe.cli.compare import run
    elif name == "plan":
        from gnnpipe.cli.plan import run
    elif name == "profile":
        from gnnpipe.cli.profile import run
    elif name == "volume":
        from gnnpipe.cli.volume import run
    elif name == "cache":
        from gnnpipe.cli.cache import run
    elif name == "export":
        from gnnpipe.cli.export import run
    else:
        from gnnpipe.cli.show import run
    return run


def _overview() -> str:
    commands = "\n".join(f"  {name:<9}{text}" for name, text in COMMANDS.items())
    return f"usage: gnnpipe COMMAND [flags]\n\n{DESCRIPTION}\ncommands:\n{commands}\n\n{EXAMPLES}"
