"""Names and numbers that trackers get, and the CSV table of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from gnnpipe.run.callbacks.csv_table import CSV
from gnnpipe.run.callbacks.host import Host
from gnnpipe.run.callbacks.values import hyperparameters, measured, results, scored
from tests.run.callbacks.made import EVALUATED, WRITTEN, Heard, begun, line, log, written


def test_the_names_are_stable() -> None:
    records = written()
    always = {
        "train/loss", "lr", "seconds", "elapsed", "bytes_sent/all", "bytes_sent/communication-layer",
        "bytes_sent/communication-graph", "bytes_sent/weights", "bytes_sent/refresh",
    }  # fmt: skip
    checked = {"gradient/cosine", "gradient/relative_error", "gradient/norm_ratio"}
    found = {record["epoch"]: measured(record).keys() - always for record in records}
    assert all(always <= measured(record).keys() for record in records)
    assert {epoch for epoch, names in found.items() if checked <= names} == {2, 5, 7, 8}
    assert {epoch for epoch, names in found.items() if "table_error" in names} == {2, 4, 6, 8}
    assert set().union(*found.values()) == {*checked, "table_error"}
    scores = {record["epoch"]: scored(record, "accuracy") for record in records}
    assert [epoch for epoch, values in scores.items() if values] == EVALUATED
    assert scores[1].keys() == {"train/accuracy", "val/accuracy", "test/accuracy"}
    assert scored(line(0, train=1.0, val=0.5, test=None), "r2") == {"train/r2": 1.0, "val/r2": 0.5}
    assert "train/loss" not in measured(line(0, loss=None))


def test_the_numbers_are_those_of_the_records() -> None:
    record = written()[2]
    values = measured(record)
    assert values["train/loss"] == record["loss"]
    assert values["bytes_sent/all"] == sum(record["bytes_sent"].values()) > 0
    assert values["gradient/cosine"] == record["estimate"]["all"]["cosine"]
    assert values["table_error"] == record["table_error"]["all"]


def test_results() -> None:
    summary = json.loads((WRITTEN / "summary.json").read_text())
    values = results(summary)
    assert values["best_val"] == summary["best_val"]
    assert values["peak_memory_bytes"] == max(summary["peak_memory_bytes"])
    assert values["bytes_per_epoch"] == sum(summary["bytes_per_epoch"].values())
    assert "test_at_best_val" not in results({**summary, "test_at_best_val": None})


def test_hyperparameters_are_flat_and_none_is_open(tmp_path: Path) -> None:
    values = hyperparameters(begun(tmp_path / "run"))
    assert {
        "epochs": 9,
        "lr": 0.01,
        "undirected": False,
        "optimizer.betas": "[0.5, 0.9]",
    }.items() <= values.items()
    assert "graph" not in values
    plan = json.loads((WRITTEN / "plan.json").read_text())
    assert values["plan.num_stages"] == plan["plan"]["num_stages"]
    assert values["graph.num_nodes"] == plan["graph"]["num_nodes"]
    assert values["metric"] == plan["metric"]
    assert all(isinstance(value, bool | int | float | str) for value in values.values())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected(records: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{"epoch": item["epoch"], **measured(item), **scored(item, "accuracy")} for item in records]


def test_the_table_has_a_row_an_epoch_also_where_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run"
    log(CSV(), begun(path), 6, end=False)
    log(CSV(), begun(path, epochs=4), 9, end=True)
    found = rows(path / "logs" / "records.csv")
    numbers = [{name: float(text) for name, text in row.items() if text} for row in found]
    assert numbers == expected(written())
    assert list(found[0])[:6] == [
        "epoch",
        "train/loss",
        "train/accuracy",
        "val/accuracy",
        "test/accuracy",
        "lr",
    ]


def test_an_evaluation_that_comes_late_completes_its_row(tmp_path: Path) -> None:
    host = Host([CSV(tmp_path / "there" / "a.csv")], Heard())
    host.start(begun(tmp_path / "run"))
    scores = {"train": 0.5, "val": 0.25, "test": 0.125}
    for record in (line(0), line(1)):
        host.epoch(record)
    host.epoch(line(1, **scores), late=True)
    assert host.error is None
    found = rows(tmp_path / "there" / "a.csv")
    assert [(row["epoch"], row["val/accuracy"]) for row in found] == [("0", ""), ("1", "0.25")]


def test_a_table_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    callback = CSV(tmp_path / "a.csv")
    host = Host([callback], Heard())
    host.start(begun(tmp_path / "run"))
    (tmp_path / "a.csv").unlink()
    (tmp_path / "a.csv").mkdir()
    assert "IsADirectoryError" in host.epoch(line(0)).failure
    with pytest.raises(IsADirectoryError):
        host.around(lambda: None)
