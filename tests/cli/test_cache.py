"""``gnnpipe cache``, and what --cache does in other commands."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from gnnpipe.cli.main import main
from gnnpipe.files.folder_lock import LOCK
from gnnpipe.files.store import Label, Store
from gnnpipe.files.writing import write_file


def fill(folder: Path, *names: str) -> None:
    with Store(folder, nullcontext, lambda _: None) as store:
        for name in names:
            label = Label("prepared graph", f"graph {name}", "2 parts x 4 chunks, gcn")
            store.use(name * 32, label, lambda path: write_file(path, "x" * 2048), lambda _: None)


def test_entries_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "a", "b")
    (tmp_path / "mine").mkdir()
    (tmp_path / ("c" * 32)).mkdir()
    assert main(["cache", "list", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert sum("2.0 KiB" in line and "2 parts x 4 chunks, gcn" in line for line in lines) == 2
    assert sum("not finished" in line for line in lines) == 1
    assert lines[-1].split() == ["4.0", "KiB", "in", "3", "entries"]


def test_old_entries_are_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "a", "b")
    (tmp_path / "mine").write_text("mine")
    long_ago = time.time() - 31 * 86400
    os.utime(tmp_path / ("a" * 32) / LOCK, (long_ago, long_ago))
    assert main(["cache", "clear", str(tmp_path), "--older", "30d"]) == 0
    assert capsys.readouterr().out == "removed 1 of 2 entries, 2.0 KiB\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b" * 32, "mine"]
    with Store(tmp_path, nullcontext, lambda _: None) as store:
        store.use("b" * 32, Label("", "", ""), lambda _: pytest.fail("it is there"), lambda _: None)
        assert main(["cache", "clear", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert f"{'b' * 32} stays: a running process uses it" in out
        assert "removed 0 of 1 entries" in out
    assert main(["cache", "clear", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty", "."], "action: 'empty' is not known"),
        (["list", "nowhere"], "folder: can't use 'nowhere' (No such file or directory"),
        (["clear", ".", "--older", "soon"], "older: 'soon' can't be used; write days as 30d"),
        (["list", ".", "--older", "3d"], "older: 3d says nothing about list"),
    ],
)
def test_errors(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cache", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_cuts_of_volume_and_plan_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--devices",
        "2",
        "--layers",
        "4",
        "--synthetic.num_nodes",
        "400",
        "--cache",
        str(tmp_path / "c"),
    ]
    for command in ("volume", "plan"):
        assert main([command, *flags, "--json"]) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr("gnnpipe.planner.cuts.cut_into_parts", lambda *_: pytest.fail("it is cut again"))
    for command in ("volume", "plan"):
        assert main([command, *flags, "--json"]) == 0
    assert capsys.readouterr().out == first
