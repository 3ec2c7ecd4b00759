"""Files of runs keep their text, to the byte, and those of older versions are read.

``tests/data/written-2026-11`` holds what the version before records were types has written: a run with checks
of the gradient and refreshes that went on by two other plans, and a run with a skipped epoch.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gnnpipe
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import CheckpointError, ConfigError, DataError
from gnnpipe.files.typed_json import from_object
from gnnpipe.graph.prepare.prepared import GraphFacts
from gnnpipe.planner.predictions import Predictions
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.plan_file import PlanFile, Resumption
from gnnpipe.records.record import Best, EpochRecord
from gnnpipe.schedule.timeline import Breakdown
from tests.made import stored_plan

WRITTEN = Path(__file__).parents[1] / "data" / "written-2026-11"
CONFIG = check_config(RunConfig(epochs=20))
ADDED = {
    "plan": {"compute": "fp32"},
    "graph": {"content": "", "scaling": {"degrees": {}, "columns": {}}},
}


def copied(name: str, tmp_path: Path) -> RunFolder:
    """A run's folder; what it writes is by those who wrote the original."""
    path = Path(shutil.copytree(WRITTEN / name, tmp_path / name))
    return RunFolder(path, launches=RunFolder(path).stored_plan().launches)


def plan_file(name: str) -> PlanFile:
    content = json.loads((WRITTEN / name / "plan.json").read_text())
    graph, predictions = (
        from_object(GraphFacts, content["graph"]),
        from_object(Predictions, content["predictions"]),
    )
    return PlanFile(RunFolder(WRITTEN / name).stored_plan().plan, graph, predictions, content["metric"])


def change(path: Path, *lines: int, **values: Any) -> None:
    """Set keys of the JSON objects on some lines of a file, or of all of it."""
    texts = path.read_text().splitlines() if lines else [path.read_text()]
    for line in lines or (0,):
        texts[line] = json.dumps({**json.loads(texts[line]), **values})
    path.write_text("\n".join(texts) + "\n")


def as_before(plan: Path) -> str:
    """A plan.json without the keys that later versions have added, each at its default."""
    content = json.loads(plan.read_text())
    assert content.pop("features_checksum") == content.pop("model_checksum") == ""
    for section, keys in ADDED.items():
        for key, value in keys.items():
            assert content[section].pop(key) == value
    return json.dumps(content, indent=2) + "\n"


def text(name: str, file: str) -> str:
    return (WRITTEN / name / file).read_text()


@pytest.mark.parametrize("name", ["refreshed", "skipped"])
def test_records_and_summaries_are_written_as_ever(name: str, tmp_path: Path) -> None:
    written, folder = RunFolder(WRITTEN / name), RunFolder(tmp_path)
    (tmp_path / "records.jsonl").touch()
    for record in written.records():
        folder.append(record)
    folder.write_summary(written.summary())
    for file in ("records.jsonl", "summary.json"):
        assert (tmp_path / file).read_text() == text(name, file)


def test_a_run_from_python_has_them_as_they_are_written(tmp_path: Path) -> None:
    folder = copied("refreshed", tmp_path)
    (folder.path / "config.yaml").write_text("epochs: 9\n")
    found = gnnpipe.open(folder.path).records()
    assert "".join(json.dumps(item) + "\n" for item in found) == text("refreshed", "records.jsonl")


def test_a_plan_is_written_as_ever(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", launches=RunFolder(WRITTEN / "skipped").stored_plan().launches)
    folder.create(CONFIG, plan_file("skipped"))
    assert as_before(folder.path / "plan.json") == text("skipped", "plan.json")


def test_a_run_that_goes_on_is_written_as_ever(tmp_path: Path) -> None:
    folder = copied("refreshed", tmp_path)
    plan = json.loads(text("refreshed", "plan.json"))  # back to where its second plan ran
    change(folder.path / "plan.json", plan=plan["plan"] | {"num_parts": 1}, resumed=plan["resumed"][:1])
    assert folder.rewind(CONFIG, plan_file("refreshed"), 8, Path()) == 8
    assert as_before(folder.path / "plan.json") == text("refreshed", "plan.json")
    first = text("refreshed", "records.jsonl").splitlines(keepends=True)[:8]
    assert (folder.path / "records.jsonl").read_text() == "".join(first)


def test_every_kind_of_line_is_among_them() -> None:
    records = RunFolder(WRITTEN / "refreshed").records()
    assert [item.epoch for item in records if item.table_error] == [2, 4, 6, 8]
    assert [item.epoch for item in records if item.gradient] == [2, 5, 7, 8]
    assert [item.epoch for item in records if item.scores] == [1, 3, 5, 7, 8]
    assert [item.epoch for item in records if item.classes] == [1]
    assert [len(item.ranks) for item in records] == [4] * 6 + [2] * 2 + [4]
    assert [item.loss is None for item in RunFolder(WRITTEN / "skipped").records()] == [
        False,
        True,
        False,
        False,
    ]
    plan = RunFolder(WRITTEN / "refreshed").stored_plan()
    assert plan.resumed == (Resumption(6, (2, 2, 4)), Resumption(8, (2, 1, 4)))
    assert (plan.shape, plan.since(9)) == ((2, 2, 4), 8)


@pytest.mark.parametrize(("epochs", "resumed"), [(20, (Resumption(3, (2, 1, 4)),)), (3, ())])
def test_what_a_newer_version_has_written_stays(
    epochs: int, resumed: tuple[Resumption, ...], tmp_path: Path
) -> None:
    """Also where a restart goes on by the plan that is there, and where no epoch is left."""
    folder = copied("skipped", tmp_path)
    (folder.path / "config.yaml").write_text("epochs: 20\n")
    change(folder.path / "records.jsonl", 0, 1, 2, 3, mood="good")
    change(folder.path / "plan.json", mood="good")
    lines = (folder.path / "records.jsonl").read_text().splitlines()
    folder.rewind(replace(CONFIG, epochs=epochs), None, 3, Path())
    assert (folder.path / "records.jsonl").read_text().splitlines() == lines[:3]
    assert folder.read("plan.json")["mood"] == "good"
    assert folder.plan().resumed == resumed


def test_runs_of_the_first_version_are_read(tmp_path: Path) -> None:
    rank = {"compute": 0.5, "bubble": 0.25, "communication_layer": 0.125, "other": 0.125}
    line = {"epoch": 0, "loss": 2.0, "lr": 0.1, "seconds": 1.0, "ranks": [rank], "bytes_sent": {"weights": 1}}
    (tmp_path / "records.jsonl").write_text(json.dumps(line) + "\n")
    (record,) = RunFolder(tmp_path).records()
    assert record.ranks == (Breakdown(0.5, 0.25, 0.0, 0.125, 0.0, 0.125),)
    assert (record.bytes_sent_by_rank, record.elapsed, record.age, record.scores) == ((), 0.0, (), None)
    summary = {key: value for key, value in json.loads(text("skipped", "summary.json")).items()
               if key not in ("classes", "bytes_per_epoch_by_rank")}  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert RunFolder(tmp_path).summary().best == Best(
        summary["best_val"], summary["test_at_best_val"], 2, None
    )
    shape = {"num_stages": 2, "num_parts": 1, "num_chunks": 4, "layer_ranges": [[0, 3], [3, 6]]}
    plan = {"plan": shape, "metric": "accuracy", "predictions": {"graph_parallel_bytes_per_epoch": 9.0}}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    found = RunFolder(tmp_path).stored_plan()
    assert (found.shape, found.rival_bytes, found.resumed, found.launches) == ((2, 1, 4), 9.0, (), ())
    assert stored_plan(found.plan).rival_bytes is None


ODD: list[tuple[dict[str, Any], str]] = [
    ({"epoch": 0}, "epoch: 0 should be 1"),
    ({"epoch": True}, "epoch: 'True' is no whole number"),
    ({"seconds": None}, "seconds: null is no number"),
    ({"bytes_sent_by_rank": [{"weights": "1"}]}, "bytes_sent_by_rank: 0: weights: '1' is no whole number"),
    ({"val": 0.5}, "train is absent"),
    ({"classes": {"val": {}}}, "classes: val: count is absent"),
    ({"ranks": {}}, "ranks: '{}' is no list"),
]


@pytest.mark.parametrize(("values", "message"), ODD)
def test_a_line_that_no_run_has_written_is_named(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = copied("skipped", tmp_path)
    change(folder.path / "records.jsonl", 1, **values)
    with pytest.raises(CheckpointError) as refused:
        folder.rewind(CONFIG, None, 3, Path())
    assert f"line 2 of '{folder.path}/records.jsonl' is not that epoch's ({message}); bring" in str(
        refused.value
    )
    if values != {"epoch": 0}:
        with pytest.raises(DataError) as damaged:
            folder.records()
        assert f"records.jsonl' is damaged (line 2: {message}); bring it back" in str(damaged.value)


def test_counts_of_differing_classes_are_named() -> None:
    (line,) = (line for line in text("skipped", "records.jsonl").splitlines() if "classes" in line)
    content = json.loads(line)
    content["classes"]["test"]["count"].append(1)
    with pytest.raises(ValueError, match=r"^classes: test: counts are not of equally many classes$"):
        from_object(EpochRecord, content)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"plan": {}}, "plan: num_stages is absent"),
        ({"plan": None}, "plan: null is no object"),
        ({"resumed": [{"epoch": 1, "from": [1, 1]}]}, "resumed: 0: from: '[1, 1]' is no list of 3"),
        ({"metric": "mood"}, "metric: 'mood' is none of "),
        ({"launches": [1]}, "launches: 0: '1' is no text"),
    ],
)
def test_a_plan_that_no_run_has_written_is_named(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = copied("skipped", tmp_path)
    change(folder.path / "plan.json", **values)
    with pytest.raises(ConfigError) as refused:
        folder.plan()
    assert str(refused.value).startswith(f"resume: '{folder.path}/plan.json' can't be read (")
    assert message in str(refused.value)
    assert not folder.is_begun_by("me", CONFIG)
