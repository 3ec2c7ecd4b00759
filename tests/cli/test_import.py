"""``gnnpipe import`` from the shell, and ``gnnpipe show`` of what it wrote."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnnpipe.cli.import_graph import default_out
from gnnpipe.cli.main import main
from gnnpipe.errors import ConfigError
from gnnpipe.graph.folder.read import open_graph
from tests.cli.commands import BIN, environment


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small graph in an npz file."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    edges = rng.integers(0, 40, (2, 200))
    np.savez(tmp_path / "mine.npz", edge_index=edges, x=rng.random((40, 3)), y=rng.integers(0, 2, 40))
    return tmp_path / "mine.npz"


def test_import_and_show(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(source), "--undirected"]) == 0
    printed = capsys.readouterr().out
    assert "graphs/mine: mine, from mine.npz" in printed
    assert "with the reverse of each; each has its reverse (undirected)" in printed
    assert printed.endswith("train on it: gnnpipe train --graph graphs/mine\n")
    assert main(["show", "graphs/mine"]) == 0
    assert capsys.readouterr().out in printed
    assert main(["show", "graphs/mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edges"]["num_given"] == 200
    assert [path.name for path in Path("graphs").iterdir()] == ["mine"]


def test_columns_of_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.csv").write_text("u,v,far,kind\n0,1,2.5,b\n1,2,0.5,a\n0,1,1,a\n")
    assert main(["import", "e.csv", "--edge-features", "far", "--edge-type", "kind", "--out", "g"]) == 0
    printed = capsys.readouterr().out
    assert "far -> features of edges, kind -> type of edges" in printed
    assert "edge data  1 columns of features; 2 types" in printed
    graph = open_graph(Path("g"))
    assert np.asarray(graph.edge_attr).tolist() == [[2.5], [1], [0.5]]
    assert np.asarray(graph.edge_type).tolist() == [1, 0, 0]
    assert graph.edge_type_names == ("a", "b")


def test_features_are_made_of_the_edges(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(source), "--features", "degree", "--out", "g"]) == 0
    printed = capsys.readouterr().out
    assert "features: those of the source are left out; they are made from the edges (degree)" in printed
    graph = open_graph(Path("g"))
    assert graph.features is not None
    assert graph.features.shape[1] < 3


def test_the_next_command_has_the_flags_that_the_graph_needs(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("bare.npz", edge_index=np.array([[0], [1]]), y=np.array([0, 1]))
    assert main(["import", "bare.npz"]) == 0
    assert capsys.readouterr().out.endswith(
        "train on it: gnnpipe train --graph graphs/bare --features degree\n"
    )
    np.savez("bare.npz", edge_index=np.array([[0], [1]]))
    assert main(["import", "bare.npz", "--overwrite"]) == 0
    assert capsys.readouterr().out.endswith(
        "plan with it: gnnpipe plan --graph graphs/bare --devices 8 (to train, give labels)\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "SOURCE: it is missing; --help says what belongs there"),
        (["mine.npz", "--out", "taken"], "out: 'taken' is not just a graph ('thesis.tex' is no file of one)"),
        (["mine.npz", "--duplicates", "average"], "duplicates: 'average' is not known; choose one of keep"),
        (["mine.npz", "--out", "mine.npz/g"], "out: 'mine.npz/g' can't be made"),
        (["mine.npz", "--undirectd"], "--undirectd is not known; did you mean '--undirected'?"),
        (["mine.npz", "--nodes", "[1, 2]"], "expected a word, or a list such as [people.csv,labels.csv]"),
    ],
)
def test_mistakes_are_one_line(
    source: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").mkdir()
    Path("taken/thesis.tex").write_text("")
    assert main(["import", *flags]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not Path("graphs").exists()


def test_name_of_the_folder() -> None:
    assert default_out(Path("a/b.edges.csv.gz")) == Path("graphs/b")
    assert default_out(Path("/data/twitch/")) == Path("graphs/twitch")
    with pytest.raises(ConfigError, match="has no name to call the folder by; give --out"):
        default_out(Path("/"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    edges = np.random.default_rng(0).integers(0, 1_000_000, (2, 10_000_000))
    np.savez(tmp_path / "big.npz", edge_index=edges)
    process = subprocess.Popen(
        [str(BIN / "gnnpipe"), "import", "big.npz"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("graphs/gnnpipe-scratch-*/*.key*")):  # the edges are being sorted
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors.count("\n") <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["big.npz"]
