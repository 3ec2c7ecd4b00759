"""The run's folder is never half-written and never overwritten by accident."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.files.reading import parse_json
from gnnpipe.files.typed_json import from_object, json_text
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import EpochRecord
from tests.made import plan_file, record


def folder(tmp_path: Path) -> RunFolder:
    config = check_config(RunConfig(out=str(tmp_path / "run")))
    result = RunFolder.for_config(config)
    result.create(config, plan_file())
    return result


def test_default_name_says_date_data_and_model() -> None:
    assert RunFolder.for_config(RunConfig(dataset="Cora", model="gcn")).path.match("runs/*-cora-gcn")


def test_existing_run_is_kept(tmp_path: Path) -> None:
    run = folder(tmp_path)
    with pytest.raises(
        ConfigError, match=r"out: '.*run' exists already; choose another --out or add --overwrite"
    ):
        RunFolder.for_config(RunConfig(out=str(run.path)))
    assert RunFolder.for_config(RunConfig(out=str(run.path), overwrite=True)).path == run.path


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(
        ConfigError, match=r"not just a run \('thesis.tex' is not a run's\), so it is not replaced"
    ):
        RunFolder.for_config(RunConfig(out=str(tmp_path), overwrite=True))
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match="not just a run"):
        RunFolder.for_config(RunConfig(out=str(tmp_path), overwrite=True))
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        RunFolder.for_config(RunConfig(out=str(tmp_path / "thesis.tex")))


def test_two_runs_can_not_share_a_folder(tmp_path: Path) -> None:
    config = check_config(RunConfig(out=str(tmp_path / "run")))
    first, second = RunFolder.for_config(config), RunFolder.for_config(config)
    first.create(config, plan_file())
    with pytest.raises(ConfigError, match="exists already"):
        second.create(config, plan_file())


def test_runs_of_one_second_get_their_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = check_config(RunConfig())
    names = set()
    for _ in range(3):
        run = RunFolder.for_config(config)
        run.create(config, plan_file())
        names.add(run.path)
    assert len(names) == 3


def test_places_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file' is no folder that may be written to"):
        RunFolder.for_config(RunConfig(out=str(tmp_path / "file" / "run")))
    config = check_config(RunConfig(out="/proc/run"))
    with pytest.raises(ConfigError, match=r"out: .*can't"):
        RunFolder.for_config(config).create(config, plan_file())


def test_config_leaves_out_where_the_run_was_kept(tmp_path: Path) -> None:
    written = yaml.safe_load((folder(tmp_path).path / "config.yaml").read_text())
    assert "out" not in written
    assert written["staleness"]["gradient"] == "reuse"
    assert written["optimizer"]["betas"] == [0.5, 0.9]


def test_records_skip_a_line_cut_short(tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.append(record(0))
    with (run.path / "records.jsonl").open("a") as file:
        file.write('{"epoch": 1, "lo')
    assert run.records() == [record(0)]
    assert (
        run.saved()
        == f"saved in {run.path}: 1 epochs in records.jsonl; no checkpoint, so --resume can't go on"
    )


def test_model_is_replaced_whole(tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.write_model({"layers.0.weight": torch.ones(2)})
    run.write_model({"layers.0.weight": torch.zeros(2)})
    assert [path.name for path in run.path.glob("model*")] == ["model.safetensors"]
    assert "the best weights so far in model.safetensors" in run.saved()


def test_nothing_saved_yet(tmp_path: Path) -> None:
    assert RunFolder(tmp_path / "x").saved() == "nothing was saved yet"


def test_records_that_are_gone_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"records.jsonl' can't be read \(No such file.*bring it back"):
        RunFolder(tmp_path).records()


@pytest.mark.parametrize("value", [1e400, -1e400, float("nan"), None, "1", True])
def test_a_record_with_an_odd_number_is_none(value: object) -> None:
    line = parse_json(json_text(record(0, val=0.5, elapsed=2.0)))
    assert from_object(EpochRecord, line) == record(0, val=0.5, elapsed=2.0)
    for key in ("seconds", "elapsed", "val"):
        with pytest.raises(ValueError, match=f"^{key}: .* is no number$"):
            from_object(EpochRecord, {**line, key: value})
