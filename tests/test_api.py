"""Runs from Python: the same as those of the command line, from wherever they are started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data, HeteroData

import gnnpipe
from gnnpipe.cli.main import main
from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.importing import ImportConfig
from gnnpipe.config.run import OptimizerConfig, RunConfig, SyntheticConfig
from gnnpipe.errors import ConfigError, DataError, PlanError
from gnnpipe.files.scratch import place_for, scratch_folder
from gnnpipe.graph.folder.write import write_graph
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.records.folder import RunFolder
from tests.cli.commands import BIN, environment, run

GRAPH = SyntheticConfig(num_nodes=400, blocks_per_class=2)
SMALL: dict[str, Any] = {
    "synthetic": GRAPH, "layers": 4, "hidden": 8, "epochs": 4, "eval_every": 2, "threads": 1,
    "checkpoint_every": 2,
}  # fmt: skip
FLAGS = [
    "--synthetic.num_nodes", "400", "--synthetic.blocks_per_class", "2", "--layers", "4", "--hidden", "8",
    "--epochs", "4", "--eval-every", "2", "--threads", "1", "--stages", "2",
]  # fmt: skip
# Each line is written in one piece, as ranks share the stream.
SCRIPT = """
import os
import gnnpipe
for out in ("one", "two"):
    run = gnnpipe.train(
        stages=2, synthetic={"num_nodes": 400, "blocks_per_class": 2}, layers=4, hidden=8, epochs=4,
        threads=1, out=out,
    )
    os.write(1, f"{run.finished} {len(run.records())}\\n".encode())
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> gnnpipe.Run:
    return gnnpipe.train(stages=2, out=tmp_path_factory.mktemp("api") / "run", **SMALL)


def as_data(**changes: Any) -> Data:
    """The built-in graph as torch_geometric has graphs."""
    graph = planted_partition(GRAPH)
    matrix = graph.adjacency.to_scipy().tocoo()
    values = {
        "x": graph.features,
        "y": graph.labels,
        "edge_index": torch.from_numpy(np.stack([matrix.col, matrix.row])).long(),
        "train_mask": graph.train_mask,
        "val_mask": graph.val_mask,
        "test_mask": graph.test_mask,
    }
    return Data(**{key: value for key, value in {**values, **changes}.items() if value is not None})


def numbers(run: gnnpipe.Run) -> list[dict[str, Any]]:
    """What does not depend on the machine, bit for bit."""
    keys = ("epoch", "loss", "train", "val", "test", "bytes_sent")
    return [{key: record[key] for key in keys if key in record} for record in run.records()]


def test_nothing_heavy_is_imported() -> None:
    code = "import gnnpipe, sys; dir(gnnpipe); assert not {'torch', 'numpy', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_names_are_those_that_are_told() -> None:
    assert set(gnnpipe.__all__) <= set(dir(gnnpipe))
    assert all(hasattr(gnnpipe, name) for name in gnnpipe.__all__)
    with pytest.raises(AttributeError, match="module 'gnnpipe' has no attribute 'trian'"):
        gnnpipe.trian  # noqa: B018


def test_it_is_the_run_of_the_command_line(finished: gnnpipe.Run, tmp_path: Path) -> None:
    assert main(["train", *FLAGS, "--checkpoint-every", "2", "--out", str(tmp_path / "run")]) == 0
    other = gnnpipe.open(tmp_path / "run")
    assert numbers(finished) == numbers(other)
    assert len(numbers(finished)) == 4
    assert finished.summary["test_at_best_val"] == other.summary["test_at_best_val"]
    assert (finished.folder / "config.yaml").read_text() == (other.folder / "config.yaml").read_text()


def test_a_run_knows_its_config(finished: gnnpipe.Run) -> None:
    assert finished.finished
    config = finished.config
    assert (config.layers, config.stages, config.synthetic) == (4, 2, GRAPH)
    assert config.optimizer.betas == (0.5, 0.9)
    assert config.out == str(finished.folder)


def test_it_is_quiet_unless_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    gnnpipe.train(out=tmp_path / "quiet", **SMALL)
    assert capfd.readouterr() == ("", "")
    gnnpipe.train(out=tmp_path / "loud", verbose=True, **SMALL)
    said = capfd.readouterr().out
    assert said.startswith("synthetic: 400 nodes")
    assert "epoch 4/4  loss" in said
    assert "median epoch" in said


def test_a_quiet_run_warns_all_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By Python's logging, which prints warnings unless the program sets it up."""
    large = SMALL | {"lr": 3.0, "epochs": 12, "optimizer": {"averaging": 0.0}}
    gnnpipe.train(stages=2, chunks=4, out=tmp_path / "run", **large)
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith("the loss is ")
    assert "a lower --lr" in said.err


@pytest.mark.parametrize("stages", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_graph_in_memory_is_the_graph_by_name(stages: int, tmp_path: Path) -> None:
    named = gnnpipe.train("synthetic", stages=stages, out=tmp_path / "named", **SMALL)
    given = gnnpipe.train(as_data(), stages=stages, out=tmp_path / "given", **SMALL)
    checked = gnnpipe.train(planted_partition(GRAPH), stages=stages, out=tmp_path / "checked", **SMALL)
    assert numbers(named) == numbers(given) == numbers(checked)
    assert given.config.dataset == "in-memory"
    assert json.loads((given.folder / "plan.json").read_text())["graph"]["name"] == "in-memory"


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (
            as_data(x=None),
            {},
            "features: in-memory has none; --features degree or --features laplacian:16 makes",
        ),
        (as_data(val_mask=None), {}, "in-memory has train_mask, but no val_mask; all three are needed"),
        (as_data(x=torch.full((400, 3), torch.nan)), {}, "features: 1200 of 1200 entries are NaN"),
        (as_data(y=None), {}, "labels: in-memory has none; to train, give those of some nodes"),
        (as_data(y=torch.rand(400)), {"task": "classes"}, "labels: .* is no class number"),
        (
            as_data(train_mask=torch.ones(100, dtype=torch.bool)),
            {},
            r"train_mask: expected bool \[400\], got bool \[100\]; a mask says of each node",
        ),
        (
            HeteroData(),
            {},
            "data: an object of type HeteroData can't be used; give a data set's name, a torch_geometric",
        ),
        (nx.path_graph(4), {}, r"data: an object of type Graph can't .* Graph, which gnnpipe.Graph.from_net"),
        ([as_data()], {}, r"data: an object of type list can't be used; .* dataset\[0\]"),
        (planted_partition(GRAPH), {"undirected": True}, "undirected: the edges of a Graph are taken as"),
        (planted_partition(GRAPH), {"task": "regression"}, "task: the labels of a Graph are taken as they"),
    ],
)
def test_graphs_in_memory_are_checked(data: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, ConfigError), match=message):
        gnnpipe.train(data, **changes)


def test_unused_attributes_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Above all what looks like edge weights, without which the graph is another one."""
    gnnpipe.train(as_data(edge_attr=torch.rand(as_data().num_edges)), out=tmp_path / "run", **SMALL)
    assert caplog.messages == [
        "edges: edge_attr (one column) is taken as a feature; weights of edges are to be named edge_weight",
        "edges: this model does not read their 1 feature",
    ]


def test_a_folder_that_is_taken_stays_as_it_was(finished: gnnpipe.Run) -> None:
    before = {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()}
    for data, changes in (
        (None, {}),
        (as_data(), {}),
        (as_data(y=None), {"overwrite": True}),
        (None, {"overwrite": True, "layers": 0}),
    ):
        with pytest.raises((ConfigError, DataError)):
            gnnpipe.train(data, **{**SMALL, "out": finished.folder, **changes})
    assert before == {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()}


def test_a_split_is_made_where_a_graph_has_none(tmp_path: Path) -> None:
    bare = as_data(train_mask=None, val_mask=None, test_mask=None)
    runs = [gnnpipe.train(bare, split=seed, out=tmp_path / str(seed), **SMALL) for seed in (0, 1)]
    assert numbers(runs[0]) != numbers(runs[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 3}, "layer is not known; did you mean 'layers'?"),
        ({"verbos": True}, "verbos is not known; did you mean 'verbose'?"),
        ({"layers": "many"}, "layers: 'many' can't be used; expected a whole number"),
        ({"layers": 2.5}, "layers: '2.5' can't be used; expected a whole number"),
        ({"layers": 0}, "layers: 0 is out of range; use 1 to"),
        ({"layers": 4, "stages": 8}, "stages: 8 stages can't share 4 layers"),
        ({"undirected": "yes"}, "undirected: 'yes' can't be used; expected true or false"),
        ({"optimizer": {"clipp": 1}}, "optimizer.clipp is not known; did you mean 'clip'?"),
        ({"optimizer": OptimizerConfig(clip="x")}, "optimizer.clip: 'x' can't be used; expected a number"),  # type: ignore[arg-type]
        ({"optimizer": 3}, "optimizer: '3' must be written with its fields, as in {'name': ...}"),
        ({"staleness": "papr"}, "staleness: 'papr' is not known; did you mean 'paper'?"),
        ({"model": "gncii"}, "model: 'gncii' is not known; did you mean 'gcnii'?"),
        ({"data": "Coar"}, "dataset: 'Coar' is not known; did you mean 'Cora'?"),
        ({"data": "Cora", "dataset": "Cora"}, "dataset: data names the graph already"),
        ({"data": "in-memory"}, "dataset: in-memory is a graph that a program held; give it again"),
        ({"config": {"layers": 3}}, "config: '{layers: 3}' can't be used; expected a RunConfig"),
        ({"config": PlanConfig()}, "config: 'PlanConfig' can't be used; expected a RunConfig, or its fields"),
        ({"dataset": as_data()}, "as data, the first argument"),
        ({"device": torch.device("cpu")}, "device: 'cpu' (device) can't be used; expected a word"),
        ({"verbose": "no"}, "verbose: 'no' can't be used; expected True or False"),
        ({"resume": "there"}, "resume: use gnnpipe.resume('there')"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError, PlanError)) as error:
        gnnpipe.train(**{"out": tmp_path / "run", **changes})
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_changes_win_over_a_config(tmp_path: Path) -> None:
    config = RunConfig(**SMALL, optimizer=OptimizerConfig(clip=1.0, warmup=2))
    found = gnnpipe.train(
        config=config, epochs=np.int64(2), optimizer={"warmup": 1}, staleness="paper", out=tmp_path / "run"
    ).config
    assert (found.layers, found.epochs) == (4, 2)
    assert (found.optimizer.clip, found.optimizer.warmup) == (1.0, 1)
    assert found.staleness.preset == "paper"


def test_open(finished: gnnpipe.Run, tmp_path: Path) -> None:
    assert gnnpipe.open(str(finished.folder)) == finished
    with pytest.raises(ConfigError, match=r"run: '.*' is no run \(config.yaml is absent\)"):
        gnnpipe.open(tmp_path)
    with pytest.raises(ConfigError, match="run: 'None' can't be used; expected the folder of a run"):
        gnnpipe.open(None)  # type: ignore[arg-type]
    shutil.copytree(finished.folder, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    unfinished = gnnpipe.open(tmp_path / "run")
    assert not unfinished.finished
    assert len(unfinished.records()) == 4
    with pytest.raises(ConfigError, match=r"has no summary.json yet; saved in .*: 4 epochs"):
        _ = unfinished.summary


def test_resume(finished: gnnpipe.Run, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "run")
    longer = gnnpipe.resume(tmp_path / "run", epochs=6, stages=1)
    whole = gnnpipe.train(stages=1, out=tmp_path / "whole", **{**SMALL, "epochs": 6})
    assert [record["loss"] for record in longer.records()[4:]] == [
        record["loss"] for record in whole.records()[4:]
    ]
    for changes, message in (
        ({}, "resume: all 6 epochs of .* are done; give more, as in --epochs 12"),
        ({"epochs": 3}, "resume: all 6 epochs of .* are done; give more, as in --epochs 12"),
        ({"hidden": 9}, "hidden: 9 is not what .* was trained with"),
        ({"out": "there"}, "out: a run goes on in its folder"),
        ({"epoch": 9}, "epoch is not known; did you mean 'epochs'"),
        ({"data": as_data()}, "dataset: in-memory is not what .* was trained with"),
    ):
        with pytest.raises(ConfigError, match=message):
            gnnpipe.resume(longer, **changes)
    with pytest.raises(ConfigError, match=r"holds no run .*; name the folder of one$"):
        gnnpipe.resume(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=rf"holds no run .*, such as '{longer.folder.parent}/"):
        gnnpipe.resume(longer.folder.parent)
    shutil.rmtree(longer.folder / "checkpoints")
    with pytest.raises(ConfigError, match=rf"no checkpoint yet; .* --warm-start {longer.folder} begins"):
        gnnpipe.resume(longer, epochs=8)
    with pytest.raises(ConfigError, match="resume: '3' can't be used; expected the folder of a run"):
        gnnpipe.resume(3)  # type: ignore[arg-type]


def test_a_graph_in_memory_is_asked_for_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = gnnpipe.train(as_data(), out=tmp_path / "run", **SMALL)
    with pytest.raises(
        ConfigError, match=r"data: .* was trained on a graph in memory; give that again, as in"
    ):
        gnnpipe.resume(run, epochs=6)
    other = as_data(edge_index=as_data().edge_index[:, 1:])
    with pytest.raises(DataError, match=r"data: the run was trained on a graph with num_edges .* same graph"):
        gnnpipe.resume(run, other, epochs=6)
    assert run.finished  # as it was
    assert "gnnpipe.resume('" in RunFolder(run.folder).saved()  # the command line has no such graph
    assert len(gnnpipe.resume(run, as_data(), epochs=6).records()) == 6
    assert main(["train", "--resume", str(run.folder), "--epochs", "8"]) == 2
    assert "dataset: in-memory is a graph that a program held" in capsys.readouterr().err


def test_ctrl_c_saves_the_run(tmp_path: Path) -> None:
    """It reaches the caller as a KeyboardInterrupt, and the caller's handler is in place again."""
    handler, records, done = (
        signal.getsignal(signal.SIGINT),
        tmp_path / "run" / "records.jsonl",
        threading.Event(),
    )

    def interrupt() -> None:
        while not done.wait(timeout=0.05):
            if records.exists() and records.stat().st_size:
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(
            KeyboardInterrupt, match=r"interrupted; saved in .*; gnnpipe.resume\('.*', data\) goes"
        ):
            gnnpipe.train(
                as_data(), out=records.parent, **{**SMALL, "epochs": 100_000, "eval_every": 100_000}
            )
    finally:
        done.set()
        thread.join()
    assert signal.getsignal(signal.SIGINT) is handler
    stopped = gnnpipe.open(records.parent)
    assert not stopped.finished
    epochs = len(stopped.records()) + 1
    assert len(gnnpipe.resume(stopped, as_data(), epochs=epochs).records()) == epochs


def test_a_root_that_came_with_a_run_is_not_trusted(tmp_path: Path, finished: gnnpipe.Run) -> None:
    shutil.copytree(finished.folder, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    root = tmp_path / "run" / "data"
    text = config.read_text().replace("dataset: synthetic", "dataset: Photo")
    config.write_text(text.replace("root: null", f"root: {root}"))
    with pytest.raises(ConfigError, match=r"root: .* lies in .*, whose files may be somebody else's"):
        gnnpipe.resume(tmp_path / "run", epochs=6)


def test_plan() -> None:
    named = gnnpipe.plan(devices=4, layers=4, hidden=8, synthetic=GRAPH)
    assert named == sorted(named, key=lambda item: item.seconds)
    assert {(item.plan.num_stages, item.plan.num_parts) for item in named} == {(1, 4), (2, 2), (4, 1)}
    given = gnnpipe.plan(as_data(), config=PlanConfig(layers=4), devices=4, hidden=8)
    assert [(item.plan, item.seconds) for item in given] == [(item.plan, item.seconds) for item in named]
    sizes = gnnpipe.plan(num_nodes=400, num_edges=8000, devices=2, layers=4)
    assert [item.plan.num_parts for item in sizes] == [1] * len(sizes)
    with pytest.raises(ConfigError, match="device is not known; did you mean 'devices'"):
        gnnpipe.plan(device=8)
    with pytest.raises(ConfigError, match="num_nodes: it stands for a graph that is not at hand"):
        gnnpipe.plan(as_data(), num_nodes=400, num_edges=8)


def test_in_a_thread_the_caller_keeps_its_own(tmp_path: Path) -> None:
    """Signals can't be listened to there, and PyTorch's number of threads is the caller's."""
    found: list[Any] = []

    def work() -> None:
        torch.set_num_threads(2)
        try:
            found.append(gnnpipe.train(stages=2, out=tmp_path / "run", **SMALL))
        except BaseException as error:
            found.append(error)
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=120)
    assert isinstance(found[0], gnnpipe.Run), found
    assert found[0].finished
    assert found[1] == 2


def test_a_process_group_of_the_callers_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    with pytest.raises(ConfigError, match="ranks: this process belongs to a process group already"):
        gnnpipe.train(out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run([sys.executable, "script.py"], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 4\n" * 2, "")


@pytest.mark.slow
def test_every_process_of_torchrun_returns_the_run(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run([str(BIN / "torchrun"), "--nproc-per-node", "2", "script.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("True 4") == 4


def graph_folder(path: Path, **changes: Any) -> Path:
    """A graph folder of the built-in graph, with features of half precision."""
    graph = planted_partition(GRAPH)
    assert isinstance(graph.features, torch.Tensor)
    raw = RawGraph(
        graph.adjacency,
        graph.features.half(),
        graph.labels,
        (graph.train_mask, graph.val_mask, graph.test_mask),
        num_nodes=graph.num_nodes,
        name="mine",
    )
    with place_for(path) as parent, scratch_folder(parent) as scratch:
        write_graph(replace(raw, **changes), path, ImportConfig(), scratch)
    return path


@pytest.mark.slow
def test_a_graph_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by a path, by text, or by --graph; its features stay where they are."""
    folder = graph_folder(tmp_path / "my-graph")
    graph = gnnpipe.load(folder)
    assert isinstance(graph.features, torch.Tensor)
    assert (graph.name, graph.num_nodes, graph.features.dtype) == ("mine", 400, torch.float16)
    settings = {key: value for key, value in SMALL.items() if key != "synthetic"}
    monkeypatch.chdir(tmp_path)
    runs = [
        gnnpipe.train(folder, out=tmp_path / "path", **settings),
        gnnpipe.train("my-graph", out=tmp_path / "text", **settings),
        gnnpipe.train(graph=folder, out=tmp_path / "field", **settings),
        gnnpipe.train(graph, out=tmp_path / "loaded", **settings),
    ]
    flags = ["--layers", "4", "--hidden", "8", "--epochs", "4", "--eval-every", "2", "--threads", "1"]
    assert main(["train", "--graph", "my-graph", *flags, "--out", "flag", "--checkpoint-every", "2"]) == 0
    runs.append(gnnpipe.open(tmp_path / "flag"))
    assert all(numbers(run) == numbers(runs[0]) for run in runs)
    assert all(run.config.graph == str(folder) for run in runs if run is not runs[3])
    assert len(gnnpipe.resume(runs[0], epochs=6).records()) == 6
    assert main(["train", "--resume", "flag", "--epochs", "6"]) == 0
    assert numbers(runs[0]) == numbers(gnnpipe.open(tmp_path / "flag"))


@pytest.mark.slow
def test_a_graph_folder_may_move_but_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = graph_folder(tmp_path / "graph")
    settings = {key: value for key, value in SMALL.items() if key != "synthetic"}
    run = gnnpipe.train(folder, out=tmp_path / "run", **settings)
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"graph: .* is no graph folder \(graph.yaml is absent\)"):
        gnnpipe.resume(run, epochs=6)
    assert len(gnnpipe.resume(run, moved, epochs=6).records()) == 6
    graph_folder(tmp_path / "other", features=np.ones((400, 3)))
    with pytest.raises(
        DataError, match="data: the run was trained on a graph with num_features 64, and this"
    ):
        gnnpipe.resume(run, tmp_path / "other", epochs=8)
    graph = planted_partition(GRAPH)
    matrix = graph.adjacency.to_scipy().tocoo()
    other_edges = 399 - np.stack([matrix.col, matrix.row])  # nodes in reverse
    for name, change in (
        ("splits", {"masks": (graph.val_mask, graph.train_mask, graph.test_mask)}),
        ("labels", {"labels": graph.labels.flip(0)}),
        ("edges", {"edge_index": other_edges}),
    ):
        graph_folder(tmp_path / name, **change)
        with pytest.raises(DataError, match="a graph of the same size with other edges, labels or splits"):
            gnnpipe.resume(run, tmp_path / name, epochs=8)
    graph_folder(tmp_path / "features", features=graph.features.flip(1).half())  # type: ignore[union-attr]
    with pytest.raises(DataError, match="a graph of the same size with other features; give the same graph"):
        gnnpipe.resume(run, tmp_path / "features", epochs=8)
    with pytest.raises(ConfigError, match=r"graph: .* was trained on the graph folder .*, and that can't"):
        gnnpipe.resume(run, "synthetic", epochs=8)


@pytest.mark.slow
def test_a_graph_folder_that_came_with_a_run_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = graph_folder(tmp_path / "run" / "graph")
    settings = {key: value for key, value in SMALL.items() if key != "synthetic"}
    done = gnnpipe.train(folder, out=tmp_path / "done", **settings)
    for path in done.folder.iterdir():
        path.rename(folder.parent / path.name)
    run = folder.parent
    for call in (
        lambda: gnnpipe.resume(run, epochs=6),
        lambda: gnnpipe.resume(run, root="there", epochs=6),
    ):
        with pytest.raises(
            ConfigError, match=r"(graph: '.*' lies in '.*', whose files may be|root: there say)"
        ):
            call()
    assert main(["train", "--resume", str(run), "--epochs", "6"]) == 2
    assert f"--graph {folder} if you trust them" in capsys.readouterr().err
    assert main(["train", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "new")]) == 2
    assert f"--graph {folder} if you trust them" in capsys.readouterr().err
    assert len(gnnpipe.resume(run, folder, epochs=6).records()) == 6
    assert main(["train", "--resume", str(run), "--epochs", "8", "--graph", str(folder)]) == 0


def test_what_a_graph_folder_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training needs features and labels; plans and volumes need their sizes only."""
    folder = graph_folder(tmp_path / "graph", features=None, labels=None, masks=None)
    for changes, message in (
        (
            {},
            "features: mine has none; --features degree or --features laplacian:16 makes some from the edges",
        ),
        ({"features": "degree"}, "labels: mine has none; to train, give those of some nodes"),
    ):
        with pytest.raises(DataError, match=message):
            gnnpipe.train(folder, **changes)
    found = gnnpipe.plan(folder, devices=2, layers=4, hidden=16)
    assert {(item.plan.num_stages, item.plan.num_parts) for item in found} == {(1, 2), (2, 1)}
    flags = ["--graph", str(folder), "--devices", "2", "--layers", "4", "--hidden", "16"]
    assert main(["plan", *flags]) == 0
    said = capsys.readouterr().out
    assert f"gnnpipe train --graph {folder}" in said
    assert "mine has none; as many columns as --hidden are planned for (16)" in said
    assert main(["volume", *flags, "--features", "laplacian:3"]) == 0
    assert "mine has none; as many classes as --hidden are planned for (16)" in capsys.readouterr().out
    labels = torch.arange(400) % 3
    graph_folder(tmp_path / "labelled", features=None, labels=labels, masks=None)
    settings = {key: value for key, value in SMALL.items() if key != "synthetic"}
    run = gnnpipe.train(tmp_path / "labelled", features="degree", out=tmp_path / "run", **settings)
    assert run.config.features == "degree"
    with pytest.raises(
        ConfigError, match=r"features: laplacian:2 is not what .* was trained with \(degree\)"
    ):
        gnnpipe.resume(run, features="laplacian:2", epochs=6)


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (
            "there/graph",
            {},
            r"graph: 'there/graph' is no graph folder \(graph.yaml is absent\); name its place",
        ),
        (Path("Cora"), {}, r"graph: 'Cora' is no graph folder"),
        ("Cora", {"graph": "there"}, "graph: data names the graph already; leave one of the two out"),
        (
            None,
            {"graph": "there", "dataset": "Cora"},
            "dataset: Cora says nothing about the graph folder 'there'",
        ),
        (None, {"graph": "there", "root": "here"}, "root: here says nothing about the graph folder 'there'"),
        (None, {"features": "degre"}, "features: 'degre' is not known; use degree, or laplacian:16"),
        (None, {"task": "values"}, "task: 'values' is not known; choose one of auto, classes, regression"),
        (None, {"metric": "mae"}, "metric: 'mae' does not fit multiclass labels"),
    ],
)
def test_mistakes_about_graphs(data: Any, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        gnnpipe.train(data, out=tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_load() -> None:
    graph = gnnpipe.load(synthetic=GRAPH, features="degree", split=1)
    assert isinstance(graph, gnnpipe.Graph)
    assert graph.notes == ("features: 1 made from the edges (degree), in place of the 64 given",)
    with pytest.raises(ConfigError, match="layers is not known"):
        gnnpipe.load("synthetic", layers=3)
    with pytest.raises(ConfigError, match="split: -1 is out of range"):
        gnnpipe.load(split=-1)
    with pytest.raises(ConfigError, match="data: an object of type Graph can't be loaded; name a data"):
        gnnpipe.load(graph)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="dataset: 'Coar' is not known; did you mean 'Cora'"):
        gnnpipe.load("Coar")
    with pytest.raises(ConfigError, match="num-nodes: 9 stands for a graph that is not at hand, but --graph"):
        gnnpipe.plan(graph="there", num_nodes=9, num_edges=9)
