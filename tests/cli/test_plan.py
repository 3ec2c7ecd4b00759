"""`gnnpipe plan` and `gnnpipe profile` as a user types them."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from gnnpipe.cli.main import main
from gnnpipe.planner.hardware import SHIPPED, load_hardware
from gnnpipe.planner.profile import FEW_CORES
from tests.cli.commands import SMALL, gnnpipe
from tests.graph.sources.test_raw_files import saint, weighted

GRAPH = ["--synthetic.num_nodes", "600", "--layers", "8"]


def test_a_table_a_reason_and_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *GRAPH, "--devices", "4"]) == 0
    text = capsys.readouterr().out
    assert "600 nodes" in text
    assert "4 devices of a5000x8" in text
    assert all(name in text for name in ("pipeline", "hybrid", "boundary rows", "memory"))
    assert "x as fast as" in text
    command = text.rpartition("Run it:")[2].strip()
    assert command.startswith("gnnpipe train --dataset synthetic --synthetic.num_nodes=600 --model gcnii")


@pytest.mark.slow
def test_the_printed_command_runs(tmp_path: Path) -> None:
    done = gnnpipe("plan", *GRAPH, "--devices", "2", "--hardware", "cpu-10g", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    words = shlex.split(found["command"])
    assert words[:2] == ["gnnpipe", "train"]
    trained = gnnpipe("train", *words[2:], "--epochs", "1", "--out", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]
    best = found["plans"][0]
    assert [plan["num_stages"], plan["num_parts"], plan["num_chunks"]] == [
        best["stages"],
        best["parts"],
        best["chunks"],
    ]
    assert plan["layer_ranges"] == best["layer_ranges"]


def test_a_graph_that_is_not_at_hand(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--num-nodes", "100000", "--num-edges", "2000000"]
    assert main(["plan", *sizes, "--devices", "4", "--json"]) == 0
    assert {plan["parts"] for plan in json.loads(capsys.readouterr().out)["plans"]} == {
        1
    }  # alpha is not known
    assert main(["plan", *sizes, "--alpha", "1.5", "--devices", "4", "--json"]) == 0
    assert {plan["parts"] for plan in json.loads(capsys.readouterr().out)["plans"]} == {1, 2, 4}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hardware", "h10"], "hardware: 'h10' is not known; did you mean 'h100'?"),
        (["--num-nodes", "5"], "num-edges: a graph that is not at hand needs its number"),
        (["--alpha", "2"], "alpha: 2.0 says nothing about --dataset synthetic"),
        (["--devices", "0"], "devices: 0 is out of range; use 1 to"),
        (["--bandwidth", "0"], "bandwidth: 0.0 is out of range"),
    ],
)
def test_mistakes(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_profile_of_another_version_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(SHIPPED["cpu-10g"], torch="1.0").save(tmp_path / "old.json")
    assert main(["plan", *GRAPH, "--devices", "2", "--hardware", str(tmp_path / "old.json")]) == 0
    captured = capsys.readouterr()
    assert "warning: " in captured.err
    assert "PyTorch 1.0" in captured.err


@pytest.mark.slow
def test_train_with_a_plan_of_its_own(tmp_path: Path) -> None:
    flags = ["--plan", "auto", "--devices", "2", "--hardware", "cpu-10g"]
    done = gnnpipe("train", *SMALL, *flags, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fastest by simulation on cpu-10g" in done.stdout
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]
    assert plan["num_stages"] * plan["num_parts"] == 2


def test_devices_without_auto(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--devices", "2"]) == 2
    assert "devices: 2 says nothing without --plan auto" in capsys.readouterr().err


@pytest.mark.slow
def test_profile(tmp_path: Path) -> None:
    flags = ["--synthetic.num_nodes", "2000", "--models", "[gcnii]", "--hidden", "[16]", "--out", "here.json"]
    done = gnnpipe("profile", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "written to here.json; use it with gnnpipe plan --hardware here.json" in done.stdout
    hardware = load_hardware(str(tmp_path / "here.json"))
    assert hardware.rates.gather > 0
    assert hardware.is_cpu
    assert hardware.contention >= 1
    assert (hardware.crowded_message_seconds > 0) == (1 < hardware.devices_per_host <= FEW_CORES)
    assert 1e6 < hardware.local.bandwidth < 1e12  # of bytes that were really sent
    assert (hardware.message_seconds > 0) == (hardware.devices_per_host > 1)
    assert (hardware.message_start_seconds > 0) == (hardware.devices_per_host > 1)
    again = gnnpipe("profile", *flags, cwd=tmp_path)
    assert again.returncode == 2
    assert "out: 'here.json' exists; give --overwrite" in again.stderr
    planned = gnnpipe("plan", *GRAPH, "--devices", "2", "--hardware", "here.json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert "warning" not in planned.stderr


def test_how_a_graph_was_taken_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = saint(tmp_path / "graph", adj=weighted()).root
    said = "edges: weights from 0.5 to 0.5 are used"
    flags = ["--dataset", "Flickr", "--root", str(root), "--layers", "4", "--devices", "2"]
    for command in ("plan", "volume"):
        assert main([command, *flags]) == 0
        assert f"note: {said}" in capsys.readouterr().out
    assert main(["plan", *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [said]
