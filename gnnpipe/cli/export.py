"""``gnnpipe export RUN``: write a run's model as a torch_geometric module."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from gnnpipe.cli.parser import Parser
from gnnpipe.config.values import Value
from gnnpipe.records.taking import check_is_run

DESCRIPTION = """Write the model of a run as one readable Python file of torch_geometric's layers (model.py),
with its weights (model.safetensors) and what it is and expects (model.json). The file needs torch and
torch_geometric, and safetensors to read the weights, but not gnnpipe. Its outputs are those of the run's
model, and it can be trained further.

The weights are the best so far, so it works for a run that is still going on or was interrupted. From Python,
gnnpipe.open(RUN).to_pyg() returns the same module."""

EPILOG = """Example: gnnpipe export runs/demo --out exported
         python exported/model.py"""


def run(arguments: list[str]) -> int:
    """Export as ``arguments`` say; return the exit code."""
    parser = Parser("gnnpipe export", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("run", type=Value("run", str), help="Folder of a run.")
    parser.add_argument("--out", type=Value("out", str), required=True, help="Folder to write.")
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace the exported model that --out holds."
    )
    parser.add_argument(
        "--model", type=Value("model", str), metavar="FILE.py:FUNCTION",
        help="Place of the run's own model, if its file has moved, or lies in the folder of the run.",
    )  # fmt: skip
    chosen = parser.read(arguments)
    check_is_run(Path(chosen.run), "run")
    from gnnpipe.export.module import FILES, SOURCE, export  # PyTorch takes seconds to import
    from gnnpipe.records.folder import RunFolder

    out = Path(chosen.out)
    trained = export(RunFolder(Path(chosen.run)), out, overwrite=chosen.overwrite, model=chosen.model)
    reached, spec = trained.reached, trained.spec
    of = f" of epoch {reached.best_epoch + 1}" if reached else ""
    of += "" if trained.finished else ", the best so far of a run that is not finished"
    names = ", ".join(sorted(name for name in FILES - {"__pycache__"} if (out / name).exists()))
    sys.stdout.write(
        f"{spec.model} of {spec.layers} layers with the weights{of}: {names} in {out}\n"
        f"an example of its use: python {shlex.quote(str(out / SOURCE))}\n"
    )
    return 0
