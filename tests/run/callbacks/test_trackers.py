"""The trackers with their real packages, offline: what they have written is read back.

CI runs all of them (``make trackers`` installs the packages that the development environment lacks).
"""

from __future__ import annotations

import json
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch.utils

from gnnpipe.errors import ConfigError
from gnnpipe.run.callbacks import mlflow, named, tensorboard, wandb
from gnnpipe.run.callbacks.callback import Callback
from gnnpipe.run.callbacks.values import hyperparameters, measured, results, scored
from tests.run.callbacks.made import WRITTEN, begun, log, written

Series = dict[str, dict[int, float]]
"""Numbers by name and epoch."""


def in_records() -> Series:
    series: Series = defaultdict(dict)
    for record in written():
        for name, value in {**measured(record), **scored(record, "accuracy")}.items():
            series[name][record["epoch"]] = value
    return dict(series)


RESULTS = results(json.loads((WRITTEN / "summary.json").read_text()))


def log_in_two_goes(make: Any, path: Path) -> None:
    """A run that fails after six epochs, of which four are kept, and goes on to its end."""
    log(make(), begun(path), 6, end=False)
    log(make(), begun(path, epochs=4), 9, end=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_in_two_goes(tensorboard.TensorBoard, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "logs" / "tensorboard")).Reload()
    found = {
        name: {event.step: event.value for event in events.Scalars(name)} for name in events.Tags()["scalars"]
    }
    for name, values in in_records().items():
        assert found.pop(name) == pytest.approx(values, rel=1e-6), name
    assert {name: pytest.approx(value, rel=1e-6) for name, value in RESULTS.items()} == {
        name.removeprefix("summary/"): values[0] for name, values in found.items()
    }
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"optimizer.betas" in content
    assert events.SummaryMetadata("_hparams_/session_end_info")
    (text,) = events.Tensors("settings/text_summary")[-1:]
    assert b"|model|gcnii|" in text.tensor_proto.string_val[0]


@pytest.mark.slow
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run"
    log_in_two_goes(mlflow.MLflow, path)
    client = package.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("gnnpipe")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    settings = hyperparameters(begun(path))
    assert run.data.params == {name: str(value) for name, value in settings.items()}
    for name, values in in_records().items():
        history = client.get_metric_history(run.info.run_id, name)
        # epochs 4 and 5 were logged twice
        assert {metric.step: metric.value for metric in history} == values
    assert {name: run.data.metrics[f"summary/{name}"] for name in RESULTS} == RESULTS
    assert package.active_run() is None
    assert not package.is_tracking_uri_set()


@pytest.mark.slow
def test_mlflow_logs_where_it_is_set_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    log(mlflow.MLflow(experiment="mine", run_name="first"), begun(tmp_path / "run"), 2, end=False)
    assert not (tmp_path / "mlruns").exists()
    client = package.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FAILED")


@pytest.mark.slow
def test_mlflow_begins_anew_where_its_run_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run"
    log(mlflow.MLflow(), begun(path), 6, end=False)
    client = package.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    client.delete_run(json.loads((path / "logs" / "mlflow.json").read_text())["id"])
    log(mlflow.MLflow(), begun(path, epochs=4), 9, end=True)
    (path / "logs" / "mlflow.json").write_text('{"id": 3}')
    log(mlflow.MLflow(), begun(path, epochs=8), 9, end=True)
    runs = client.search_runs([client.get_experiment_by_name("gnnpipe").experiment_id])
    histories = [client.get_metric_history(run.info.run_id, "train/loss") for run in runs]
    assert sorted([metric.step for metric in history] for history in histories) == [[4, 5, 6, 7, 8], [8]]


@pytest.mark.slow
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    log_in_two_goes(lambda: wandb.WandB(tags=["mine"]), tmp_path / "run")
    logs = tmp_path / "run" / "logs"
    first, second = sorted((logs / "wandb").glob("offline-run-*/*.wandb"))
    assert first.name == second.name == f"run-{json.loads((logs / 'wandb.json').read_text())['id']}.wandb"
    history, config, summary = read_back(first)
    assert config["optimizer.betas"] == "[0.5, 0.9]"
    assert config["lr"] == 0.01
    records = in_records()
    assert history == {name: before(6, values) for name, values in records.items() if before(6, values)}
    history, _, summary = read_back(second)
    assert history == {name: after(4, values) for name, values in records.items() if after(4, values)}
    assert RESULTS.items() <= summary.items()


def after(epochs: int, values: dict[int, float]) -> dict[int, float]:
    return {epoch: value for epoch, value in values.items() if epoch >= epochs}


def before(epochs: int, values: dict[int, float]) -> dict[int, float]:
    return {epoch: value for epoch, value in values.items() if epoch < epochs}


def read_back(path: Path) -> tuple[Series, dict[str, Any], dict[str, Any]]:
    """History, config and summary in a file of W&B's."""
    from wandb.proto.wandb_internal_pb2 import Record

    history: Series = defaultdict(dict)
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for content in chunks(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        row = {
            item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
        }
        for name, value in row.items():
            if name != "epoch" and not name.startswith("_"):
                history[name][row["epoch"]] = value
        config |= decoded(record.run.config.update) | decoded(record.config.update)
        summary |= decoded(record.summary.update)
    return dict(history), config, summary


def decoded(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def chunks(content: bytes) -> Iterator[bytes]:
    """Records of a log as LevelDB writes it: blocks of 32 KiB with pieces (checksum, length, kind, bytes)."""
    assert content[:4] == b":W&B"
    position, record = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        piece = content[position + 7 : position + 7 + length]
        position += 7 + length
        record = piece if kind in (1, 2) else record + piece
        if kind in (1, 4):
            yield record


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_an_absent_package_is_named_with_its_extra(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in (None, ModuleSpec(name, None)):  # the second is a folder of that name
        monkeypatch.setattr(named, "find_spec", lambda _, spec=spec: spec)
        with pytest.raises(ConfigError, match=rf"log: {name} is not installed; .*gnnpipe\[{name}\]'"):
            named.named([name])
    # as the import system says it: None stands for a module that can't be imported
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    kind: type[Callback] = named.KINDS[name]
    with pytest.raises(ConfigError, match=rf"callbacks: {name} is not installed; .*gnnpipe\[{name}\]'"):
        kind()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_folder_of_its_name_is_no_package(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both make such folders where they are used."""
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    with pytest.raises(ConfigError, match=f"{name} is not installed"):
        named.KINDS[name]()  # type: ignore[index]
