"""The same few lines from a script, stdin, torchrun and a notebook; and that nothing else is printed."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cli.commands import BIN, environment, run
from tests.graphs import private_root

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "python.md"
BEGIN = "<!-- lines:begin"
SHOW = "run.show()"

pytestmark = pytest.mark.slow


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def the_lines() -> str:
    """Those that README.md begins with."""
    return blocks((ROOT / "README.md").read_text().split(BEGIN, 1)[1])[0]


def notebook(cells: list[str], folder: Path) -> list[list[dict[str, Any]]]:
    """Run cells in a kernel; return the outputs of each."""
    found = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    # under pytest a kernel would leave the output of other processes, such as ranks, alone
    variables = {key: value for key, value in environment().items() if key != "PYTEST_CURRENT_TEST"}
    client = NotebookClient(found, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute(env=variables)
    return [cell.outputs for cell in found.cells]


def said(outputs: list[dict[str, Any]]) -> str:
    """Text of a cell's standard streams."""
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def test_they_are_five() -> None:
    assert len([line for line in the_lines().splitlines() if line.strip()]) <= 5


@pytest.mark.parametrize("how", ["file", "stdin", "torchrun"])
def test_the_lines(how: str, tmp_path: Path) -> None:
    (tmp_path / "lines.py").write_text(the_lines())
    command = {
        "file": [sys.executable, "lines.py"],
        "stdin": [sys.executable, "-"],
        "torchrun": [str(BIN / "torchrun"), "--nproc-per-node", "2", "lines.py"],
    }[how]
    with (tmp_path / "lines.py").open() as script:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), stdin=script if how == "stdin" else None,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check(done.stdout, num_processes=2 if how == "torchrun" else 1)
    assert (tmp_path / "runs" / "python" / "summary.json").exists()


def test_the_lines_in_a_notebook(tmp_path: Path) -> None:
    (outputs,) = notebook([the_lines()], tmp_path)
    check(said(outputs), num_processes=1, table=False)
    if SHOW in the_lines():
        table, *pictures = (output["data"] for output in outputs if output["output_type"] == "display_data")
        assert "test accuracy at best validation" in table["text/html"]
        assert [next(iter(picture)) for picture in pictures] == ["image/png"] * 2  # the run, classes


def check(text: str, *, num_processes: int, table: bool = True) -> None:
    """Each process prints what it is told to; one shows the run, if the lines say so."""
    assert len(re.findall(r"^0\.\d+ 20$", text, re.M)) == num_processes
    assert text.count("test accuracy at best validation") == int(table and SHOW in the_lines())


def test_a_notebook_shows_runs_and_progress(tmp_path: Path) -> None:
    settings = 'synthetic={"num_nodes": 600}, layers=4, epochs=4, eval_every=2, stages=2'
    quiet, loud, comparison, seeds = notebook(
        [
            f"import gnnpipe\nrun = gnnpipe.train({settings})\nrun",
            f"other = gnnpipe.train({settings}, verbose=True)",
            "gnnpipe.compare(run, other)",
            f"gnnpipe.train_seeds([0, 1], out='seeds', {settings})",
        ],
        tmp_path,
    )
    assert said(quiet) == ""
    assert "test accuracy at best validation" in quiet[-1]["data"]["text/html"]
    text = said(loud)
    assert re.findall(r"^epoch (\d)/4  loss", text, re.M) == ["2", "4"]  # printed by another process
    assert "synthetic: 600 nodes" in text
    assert "median epoch" in text
    assert "\x1b" not in text
    assert "speed-up" in comparison[-1]["data"]["text/html"]
    assert "standard deviation" in seeds[-1]["data"]["text/html"]


INTERRUPTED = """
import os, pathlib, signal, threading, time
import gnnpipe

def interrupt():
    records = pathlib.Path("run", "records.jsonl")
    while not (records.exists() and records.stat().st_size):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    gnnpipe.train(synthetic={"num_nodes": 600}, layers=4, stages=2, epochs=100_000, out="run")
except KeyboardInterrupt as error:
    print(error)
"""


def test_a_kernel_that_is_interrupted_saves_the_run(tmp_path: Path) -> None:
    """The frontend sends the signal that this cell sends itself."""
    more = 'run = gnnpipe.open("run")\ngnnpipe.resume(run, epochs=len(run.records()) + 1).finished'
    stopped, resumed = notebook([INTERRUPTED, more], tmp_path)
    assert "interrupted; saved in run: " in said(stopped)
    assert resumed[-1]["data"]["text/plain"] == "True"


def test_the_page(tmp_path: Path) -> None:
    """Its blocks, one after the other."""
    code = blocks(PAGE.read_text())
    assert len(code) > 5
    (tmp_path / "page.py").write_text("\n".join(code))
    done = run([sys.executable, "page.py"], tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "layer is not known; did you mean 'layers'?" in done.stdout


QUIET = """
    import warnings
    import torch
    import gnnpipe
    from torch_geometric.data import Data

    warnings.simplefilter("error")
    settings = {"layers": 2, "epochs": 4, "checkpoint_every": 2, "hidden": 8}
    edge_index = torch.randint(300, (2, 2000)).unique(dim=1)  # repeated edges would be warned of
    data = Data(x=torch.randn(300, 8), y=torch.randint(3, (300,)), edge_index=edge_index)
    runs = [
        gnnpipe.train(data, **settings),
        gnnpipe.train("synthetic", synthetic={"num_nodes": 600}, stages=2, **settings),
    ]
    gnnpipe.resume(runs[0], data, epochs=6)
    gnnpipe.resume(runs[1], epochs=6, stages=1)
    gnnpipe.load("synthetic")
    gnnpipe.plan(data, layers=4, devices=2)
    comparison = gnnpipe.compare(*runs)
    comparison.records(), comparison.frame(), repr(comparison), repr(runs)
    run = gnnpipe.open(runs[0].folder)
    run.summary, run.config, run.records(), run.frame()
    run.predict(data).classes, runs[1].predict(out="predictions.csv"), runs[1].embed(0).rows
    run.to_pyg(), run.export("exported")
    gnnpipe.train_seeds([0, 1], data, out="seeds", **settings)
    gnnpipe.train(data, callbacks=[gnnpipe.CSV(), gnnpipe.EarlyStopping(patience=2)], **settings)
    try:
        gnnpipe.train(layer=3)
    except gnnpipe.errors.ConfigError:
        pass
"""
OF_A_DATA_SET = """
    import gnnpipe

    graph = gnnpipe.load("Cora", root="Planetoid")
    gnnpipe.train("Cora", root="Planetoid", layers=2, epochs=2, hidden=8)
    gnnpipe.plan("Cora", root="Planetoid", layers=4, devices=2)
"""


def printed(code: str, folder: Path, *, terminal: bool) -> str:
    """Text of both streams of a script, whoever has written it: the files themselves are looked at."""
    (folder / "script.py").write_text(textwrap.dedent(code))
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, env=environment(), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # a terminal that nobody writes to any more
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    assert process.wait(timeout=120) == 0, text.decode()
    return text.decode()


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_is_printed_unless_asked(terminal: bool, tmp_path: Path) -> None:
    assert printed(QUIET, tmp_path, terminal=terminal) == ""


def test_nothing_is_printed_of_a_data_set(tmp_path: Path) -> None:
    """torch_geometric would say that it processes files, but not where it sees pytest."""
    private_root(tmp_path, "Planetoid")
    assert printed(OF_A_DATA_SET, tmp_path, terminal=False) == ""
