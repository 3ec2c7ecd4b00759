"""What Python gets of a run that is done: its table, its records as a DataFrame, runs side by side."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import threading
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import gnnpipe
from gnnpipe.cli.main import main
from gnnpipe.comm.rank_process import Task
from gnnpipe.config.keywords import configured
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError
from gnnpipe.planner.search import Candidate
from gnnpipe.report.console import ConsoleReporter
from gnnpipe.report.notebook import as_html
from gnnpipe.schedule.timeline import Breakdown
from gnnpipe.schedule.volume import Volume
from tests.made import plan, record

ROOT = Path(__file__).parents[1]
NAMES = ("gcnii", "resgcn")


@pytest.fixture
def runs(tmp_path: Path) -> list[gnnpipe.Run]:
    """Two finished runs of an earlier version: 2 stages x 4 chunks, and 2 parts with a checked gradient."""
    for name in NAMES:
        shutil.copytree(ROOT / "tests" / "data" / "runs-2026-11" / name, tmp_path / name)
    return [gnnpipe.open(tmp_path / name) for name in NAMES]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_show_is_the_command(runs: list[gnnpipe.Run], capsys: pytest.CaptureFixture[str]) -> None:
    runs[0].show()
    said = capsys.readouterr().out
    assert main(["show", str(runs[0].folder)]) == 0
    assert said == capsys.readouterr().out
    assert f"{read(runs[0].folder / 'summary.json')['test_at_best_val']:.4f}" in said
    assert (runs[0].folder / "report.png").exists()


def test_show_of_a_run_that_still_goes_on(
    runs: list[gnnpipe.Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gnnpipe.report.show.draw_report", lambda folder: "no picture: a stand-in")
    (runs[0].folder / "summary.json").unlink()
    runs[0].show()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("not finished; saved in")
    assert said[1:] == ["no picture: a stand-in"]


def test_one_process_of_torchrun_shows(
    runs: list[gnnpipe.Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gnnpipe.report.show.draw_report", lambda folder: "picture: a stand-in")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    runs[0].show()
    gnnpipe.compare(*runs).show()
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    runs[0].show()
    assert "picture: a stand-in" in capsys.readouterr().out


def test_a_run_in_one_line(runs: list[gnnpipe.Run]) -> None:
    run = runs[0]
    score = read(run.folder / "summary.json")["test_at_best_val"]
    assert repr(run) == str(run) == f"Run('{run.folder}', finished, 4 epochs, test accuracy {score:.4f})"
    (run.folder / "summary.json").write_text("{}")
    assert repr(run) == f"Run('{run.folder}')"
    (run.folder / "summary.json").unlink()
    assert repr(run) == f"Run('{run.folder}', not finished, 4 epochs)"
    shutil.rmtree(run.folder)
    assert repr(run) == f"Run('{run.folder}')"


def test_a_run_as_a_table_of_a_notebook(runs: list[gnnpipe.Run]) -> None:
    found = dict(cells(runs[0]._repr_html_()))
    score = read(runs[0].folder / "summary.json")["test_at_best_val"]
    assert found["test accuracy at best validation"].startswith(f"{score:.4f} (validation ")
    assert "median epoch" in found
    (runs[0].folder / "summary.json").unlink()
    assert "not finished; saved in" in runs[0]._repr_html_()
    (runs[0].folder / "summary.json").write_text("{}")
    assert f"Run('{runs[0].folder}')" in unescape(runs[0]._repr_html_())


def cells(html: str) -> list[tuple[str, str]]:
    """First and second cell of each row of a table."""
    text = unescape(re.sub("<[^>]*>", "", html))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    return [(row[0], row[1]) for row in rows if row]


def test_html_is_escaped() -> None:
    assert "&lt;b&gt; [i]" in as_html(lambda console: console.print("<b> [i]", markup=False))


def test_a_frame_holds_the_records(runs: list[gnnpipe.Run]) -> None:
    for run in runs:
        records = [json.loads(line) for line in (run.folder / "records.jsonl").read_text().splitlines()]
        frame = run.frame()
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.index) == [line["epoch"] for line in records]
        assert frame.index.name == "epoch"
        for epoch, line in enumerate(records):
            assert frame.loc[epoch, "loss"] == line["loss"]
            for kind, count in line["bytes_sent"].items():
                assert frame.loc[epoch, f"bytes_sent.{kind}"] == count
            assert frame.loc[epoch, "ranks"] == line["ranks"]
            score = frame.loc[epoch, "val"]
            assert score == line["val"] if "val" in line else math.isnan(score)
    (runs[0].folder / "records.jsonl").write_text("")
    assert len(runs[0].frame()) == 0


def test_a_frame_needs_pandas(runs: list[gnnpipe.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"frame: pandas is not installed; pip install 'gnnpipe\[frames\]'"):
        runs[0].frame()
    assert len(runs[0].records()) == 4


def test_compare_is_the_command(runs: list[gnnpipe.Run], capsys: pytest.CaptureFixture[str]) -> None:
    comparison = gnnpipe.compare(runs[0], str(runs[1].folder))
    folders = [str(run.folder) for run in runs]
    assert main(["compare", *folders, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert comparison.records() == told["runs"]
    assert list(comparison.unequal) == told["unequal"]
    assert any(line.startswith("model: ") for line in comparison.unequal)
    first, second = comparison.runs
    assert (first.speed_up, first.times_less) == (1.0, 1.0)
    assert second.speed_up == first.median_epoch_seconds / second.median_epoch_seconds
    assert comparison.frame()["speed_up"].to_dict() == dict(zip(folders, (1.0, second.speed_up), strict=True))
    assert main(["compare", *folders]) == 0
    table, _, rest = capsys.readouterr().out.partition("not equal")
    assert repr(comparison).startswith(table)
    assert repr(comparison).count("not equal") == len(comparison.unequal)
    assert rest.rstrip().endswith("comparison.png")
    rows = dict(cells(comparison._repr_html_()))
    assert rows["run"] == "gcnii"
    assert rows["speed-up"] == "1.00 x"


def test_what_can_not_be_compared(runs: list[gnnpipe.Run], tmp_path: Path) -> None:
    for given, message in (
        ((), "runs: there is nothing to compare; give two or more, as in gnnpipe.compare"),
        ((runs,), r"or gnnpipe.compare\(\*runs\)"),
        ((runs[0], 3), "runs: '3' can't be used; expected the folder of a run"),
        ((runs[0], tmp_path), r"runs: '.*' is no run \(config.yaml is absent\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            gnnpipe.compare(*given)  # type: ignore[arg-type]
    (runs[1].folder / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"runs: '.*resgcn' is not finished; saved in"):
        gnnpipe.compare(*runs)


def candidate(**changes: Any) -> Candidate:
    shape = replace(plan(2, 1, 8), **changes)
    return Candidate(shape, 0.5, Volume(0, 3 * 2**20, 0), 2**30, Breakdown(0, 0, 0, 0, 0, 0), 0)


def test_a_candidate_in_one_line() -> None:
    found = candidate(wire="int8")
    assert repr(found) == "Candidate(2x1x8+int8: 0.5 s an epoch, 3.0 MiB sent, 1.0 GiB a device)"
    too_large = replace(found, seconds=math.inf, lack=2**29)
    assert repr(too_large) == "Candidate(2x1x8+int8: needs 1.0 GiB a device, 512.0 MiB too much)"


@pytest.mark.parametrize(
    "changes", [{}, {"wire": "bf16"}, {"initial": "recompute"}, {"tables": "bf16", "initial": "recompute"}]
)
def test_the_settings_of_a_candidate_make_its_run(changes: dict[str, Any]) -> None:
    found = configured(RunConfig(), candidate(**changes).settings)
    assert (found.stages, found.parts, found.chunks) == (2, 1, 8)
    expected = {"wire": "fp32", "initial": "relay", "tables": "fp32", **changes}
    assert {key: getattr(found, key) for key in expected} == expected


def test_a_notebook_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its kernel passes for a terminal that shows colours, to the ranks too."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    reporter = ConsoleReporter(2, "accuracy", plain=True)
    for shown in (reporter, reporter.__reduce__()[0](*reporter.__reduce__()[1])):
        shown.epoch(record(1, val=0.5))
        assert capsys.readouterr().out.startswith("epoch 2/2  loss 1.0000  accuracy train 0.5000")


def test_the_page_draws_the_tree_of_errors() -> None:
    text = (ROOT / "docs" / "python.md").read_text().split("## Errors", 1)[1].split("```")[1]
    drawn = {name for name in re.findall(r"\b(\w+Error)\b", text) if hasattr(gnnpipe.errors, name)}
    errors = {
        name for name, item in vars(gnnpipe.errors).items() if isinstance(item, type) and "Error" in name
    }
    assert drawn == errors
    parents: list[str] = []
    for line in text.strip().splitlines():
        name = re.search(r"\w+Error", line)[0]  # type: ignore[index]
        depth = line.index(name) // 4
        parents[depth:] = [name]
        if depth:
            assert issubclass(getattr(gnnpipe.errors, name), getattr(gnnpipe.errors, parents[depth - 1]))
        if other := re.search(r"\((\w+)\)", line):
            assert other[1] in [base.__name__ for base in getattr(gnnpipe.errors, name).__bases__]


def test_what_no_rank_can_import_is_named(tmp_path: Path) -> None:
    def inside(store: str) -> None: ...

    for function, arguments in ((inside, ()), (print, (lambda: 0,)), (print, (threading.Lock(),))):
        with pytest.raises(ConfigError, match=r"can't be sent to them: .*; define functions and classes at"):
            Task.of(function, arguments, 1, tmp_path, {})
