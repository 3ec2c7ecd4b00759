"""The table and the lines are pure functions of what a run leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gnnpipe.config.run import LossConfig
from gnnpipe.files.typed_json import from_object
from gnnpipe.nn.metrics import ClassCounts, Classes, Scores
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.plan_file import StoredPlan
from gnnpipe.records.record import GradientQuality, StoppedEarly
from gnnpipe.report.classes import class_rows, class_table, class_warnings
from gnnpipe.report.console import (
    ConsoleReporter,
    PatientConsole,
    describe_estimate,
    describe_loss,
    describe_start,
    summary_rows,
)
from gnnpipe.report.pictures import median_breakdown
from gnnpipe.schedule.estimate import Estimate
from gnnpipe.schedule.timeline import Breakdown
from gnnpipe.system.words import readable_bytes
from tests.made import classes, plan, plan_file, record, stored_plan, summary


def test_rows() -> None:
    rows = dict(summary_rows(summary(), stored_plan(plan(2), 4096.0)))
    assert rows["test accuracy at best validation"] == "0.2500 (validation 0.5000, epoch 5 of 10)"
    assert rows["sent per epoch"] == "2.0 KiB"
    rival = rows["graph parallelism on 2 devices would send"]
    assert rival == "4.0 KiB (2.0 x as much; by formula, not measured)"
    assert rows["peak memory of a rank"] == "3.0 GiB, least 1.0 GiB"


def test_runs_of_an_older_version() -> None:
    shape = {"num_stages": 2, "num_parts": 1, "num_chunks": 1, "layer_ranges": [[0, 3], [3, 6]]}
    foreseen = {"graph_parallel_bytes_per_epoch": 4096.0}
    old = from_object(StoredPlan, {"plan": shape, "metric": "accuracy", "predictions": foreseen})
    assert summary_rows(summary(), old) == summary_rows(summary(), stored_plan(plan(2), 4096.0))


def test_nothing_to_compare_with_on_one_device() -> None:
    alone = summary(bytes_per_epoch={"communication-layer": 0})
    rows = summary_rows(alone, stored_plan(plan(2)))
    assert not [name for name, _ in rows if "graph parallelism" in name]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**50, "1024.0 TiB")],
)
def test_readable_bytes(count: int, text: str) -> None:
    assert readable_bytes(count) == text


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ConsoleReporter(10, "roc_auc")
    reporter.epoch(record(0, loss=2.0, seconds=0.5))
    reporter.epoch(record(1, seconds=0.5, scores=Scores(train=0.9, val=0.8, test=0.7)))
    reporter.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["epoch 2/10  loss 1.0000  ROC AUC train 0.9000 val 0.8000 test 0.7000  2.00 epochs/s"]


def test_start_describes_graph_cut_and_plan() -> None:
    shape = plan(stages=2, chunks=4)
    lines = describe_start(plan_file(shape, fresh=0.875), "exact")
    assert "1,000 nodes, 2,000 edges" in lines[0]
    assert (
        "25.0% of the edges between chunks, 87.5% of the messages fresh, imbalance of work 1.10" in lines[1]
    )
    assert "2 stages with layers 0-2, 3-5; 4 chunks; bubble 20.0%" in lines[2]
    assert len(lines) == 3
    noted = describe_start(plan_file(shape, fresh=0.875, notes=["weights are not used"]), "exact")
    assert noted == [lines[0], "note: weights are not used", *lines[1:]]
    coded = describe_start(plan_file(replace(shape, wire="int8", initial="recompute")), "exact")
    assert coded[3].startswith("rows travel between stages as int8; initial rows, if the model has them, are")
    short = describe_start(plan_file(replace(shape, tables="bf16")), "exact")
    assert short[3] == "aggregated rows are held as bf16"
    fast = describe_start(plan_file(replace(shape, compute="tf32")), "exact")
    assert fast[3] == "rows are multiplied with weights in tf32, and summed in fp32"
    parted = describe_start(plan_file(plan(stages=2, parts=2)), "stale")
    assert parted[1].startswith("2 parts (METIS could not; reverse Cuthill-McKee instead): 450 boundary rows")
    assert (
        "0.45 other parts need a row (alpha), imbalance of work 1.30; other parts' rows are last epoch's"
        in parted[1]
    )
    assert len(parted) == 3
    ahead = replace(shape, lookahead=1, note="lookahead 1 over 4 chunks: 1.50 x as fast as one chunk")
    chosen = describe_start(plan_file(ahead), "exact")
    assert chosen[1] == "exact training with lookahead 1 over 4 chunks: 1.50 x as fast as one chunk"
    assert "100.0% of the messages fresh, looking 1 chunk ahead, imbalance" in chosen[2]


def test_estimate_in_a_line() -> None:
    found = Estimate(cosine=0.95, relative_error=0.313, norm_ratio=0.9, table_error=0.0512)
    line = describe_estimate(GradientQuality(2.0, {"all": found}), 1.0)
    assert line == (
        "gradient against the exact one: cosine 0.950, relative error 0.31, norm 0.90 x; rows 5.1% off; "
        "loss 1.0000, exact 2.0000"
    )


def test_median_breakdown() -> None:
    records = [record(ranks=(Breakdown(seconds, 0.0),)) for seconds in (3.0, 1.0, 2.0)]
    assert median_breakdown(records) == [Breakdown(compute=2.0, bubble=0.0)]


def test_median_breakdown_of_a_run_that_went_on_with_fewer_ranks() -> None:
    records = [record(ranks=(Breakdown(9.0, 0.0),) * 2), record(ranks=(Breakdown(1.0, 0.0),))]
    assert median_breakdown(records) == [Breakdown(1.0, 0.0)]
    assert median_breakdown(records[::-1]) == [Breakdown(9.0, 0.0)] * 2


def test_a_minority_that_is_never_predicted_is_said() -> None:
    counted = classes([1950, 50], [1950, 0], [2000, 0])
    assert class_rows(counted) == [
        ("0", "0.9750", "1.0000", "0.9873", "1,950"),
        ("1", "-", "0.0000", "0.0000", "50"),
    ]
    assert class_warnings(counted, "accuracy") == [
        "warning: class 1 (50 of 2,000 test labels) is never predicted; accuracy hardly shows it, "
        "--metric macro_f1 does, and --class-weights balanced trains all classes alike"
    ]
    assert class_warnings(counted, "balanced_accuracy") == [
        "warning: class 1 (50 of 2,000 test labels) is never predicted"
    ]


def test_classes_have_names() -> None:
    counted = classes([1950, 50], [1950, 0], [2000, 0])
    assert [row[0] for row in class_rows(counted, ("bot", "human"))] == ["bot", "human"]
    assert class_warnings(counted, "accuracy", ("bot", "human"))[0].startswith("warning: class human (50 of")


def test_a_minority_that_is_rarely_found_is_said() -> None:
    counted = classes([1950, 50], [1900, 20], [1930, 70])
    assert class_warnings(counted, "f1") == [
        "warning: class 1 (50 of 2,000 test labels) is found less than half as often as nodes are on "
        "average; micro-F1 hardly shows it, --metric macro_f1 does, and --class-weights balanced trains all "
        "classes alike"
    ]
    assert class_warnings(classes([1950, 50], [1900, 40], [1920, 80]), "f1") == []


def test_of_many_classes_the_worst_are_listed() -> None:
    count, correct = [10] * 20, [*range(8), *[9] * 12]
    counted = classes(count, correct, [0, *[5] * 19])
    rows = class_rows(counted)
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4"]
    assert rows[2] == ("2", "0.4000", "0.2000", f"{4 / 15:.4f}", "10")
    table = class_table(counted, whole=Path("run/classes.csv"))
    assert table is not None
    title = "classes on test nodes: the 5 of 20 with the lowest F1; all are in run/classes.csv"
    assert str(table.title) == title
    warnings = class_warnings(counted, "accuracy")
    assert warnings[0].startswith("warning: class 0 (10 of 200 test labels) is never predicted")
    assert warnings[1].startswith(
        "warning: 3 classes (1, 2, 3; 30 of 200 test labels) are found less than half"
    )


def test_runs_of_versions_that_did_not_count_classes_say_nothing_of_them() -> None:
    assert class_table(None) is None
    assert class_warnings(None, "accuracy") == []


def test_a_loss_is_described_unless_it_is_the_usual_one() -> None:
    assert describe_loss(LossConfig(), ()) == []
    assert describe_loss(LossConfig("huber"), ()) == ["loss: huber of the values"]
    weighed = LossConfig("auto", (8.0, 0.5), 0.1)
    assert describe_loss(weighed, ("bad", "good")) == [
        "loss: classes weighed bad 8, good 0.5; labels smoothed by 0.1"
    ]
    assert describe_loss(LossConfig("auto", (1.0,) * 12), ()) == [
        f"loss: classes weighed {', '.join(f'{i} 1' for i in range(10))}, and 2 more"
    ]
    assert "inversely" in describe_loss(LossConfig("auto", "balanced"), ())[0]


def test_without_test_labels_the_tables_are_of_validation_nodes() -> None:
    counted = Classes(ClassCounts((8, 2), (8, 0), (10, 0)), ClassCounts((0, 0), (0, 0), (0, 0)))
    table = class_table(counted)
    assert table is not None
    assert str(table.title) == "classes on validation nodes"
    assert class_rows(counted)[1] == ("1", "-", "0.0000", "0.0000", "2")
    assert class_warnings(counted, "macro_f1") == [
        "warning: class 1 (2 of 10 validation labels) is never predicted"
    ]


def test_names_of_classes_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    table = class_table(classes([2, 2], [1, 2], [1, 3]), ("[red]apple[/red]", "pear\x1b[31m\nplum"))
    PatientConsole(width=140).print(table)
    shown = capsys.readouterr().out
    assert "[red]apple[/red]" in shown
    assert "\x1b" not in shown
    assert "plum" in shown


def test_a_run_that_stopped_early_says_why_and_keeps_it(tmp_path: Path) -> None:
    stopped = StoppedEarly(8, "validation accuracy has not improved for 4 epochs")
    rows = dict(summary_rows(summary(epochs=9, stopped_early=stopped), stored_plan()))
    assert rows["stopped early"] == "after epoch 9: validation accuracy has not improved for 4 epochs"
    assert "stopped early" not in dict(summary_rows(summary(), stored_plan()))
    RunFolder(tmp_path).write_summary(summary(stopped_early=stopped))
    assert RunFolder(tmp_path).summary().stopped_early == stopped
    assert json.loads((tmp_path / "summary.json").read_text())["stopped_early"]["epoch"] == 8
