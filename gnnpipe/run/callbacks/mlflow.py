"""Records in MLflow."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from gnnpipe.records.taking import LOGS
from gnnpipe.run.callbacks.callback import RunInfo
from gnnpipe.run.callbacks.tracker import Note, Tracker, not_installed
from gnnpipe.run.callbacks.values import Plain

# MLflow's limits: characters of a parameter, parameters of a call.
LONGEST, MOST = 500, 100


class MLflow(Tracker):
    """Logs to MLflow. A run that goes on goes on with the same run there, by the id in logs/mlflow.json.

    Args:
        tracking_uri: of the store or server; by default the one that MLflow is set to (MLFLOW_TRACKING_URI,
            or ``mlflow.set_tracking_uri``), else the folder mlruns here.
        experiment: name of the experiment, which is made if there is none.
        run_name: by default the name of the run's folder.

    Raises:
        ConfigError: mlflow is not installed.
    """

    def __init__(
        self, tracking_uri: str | None = None, experiment: str = "gnnpipe", run_name: str | None = None
    ) -> None:
        mlflow = _package()
        given = tracking_uri or (mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None)
        self._uri = given or Path("mlruns").absolute().as_uri()
        self._experiment, self._name = experiment, run_name
        self._client: Any = None
        self._id = ""

    def begin(self, run: RunInfo, settings: dict[str, Plain]) -> None:
        """Open the run, or the one that was logged to before."""
        if self._id:  # a restart
            return
        mlflow = _package()
        self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        path = run.folder / LOGS / "mlflow.json"
        note = Note.read(path) if run.first_epoch else None
        if note and self._goes_on(note):
            return  # parameters can't change; those of the first start stay
        found = self._client.get_experiment_by_name(self._experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(self._experiment)
        name = self._name or run.folder.resolve().name
        self._id = self._client.create_run(experiment, run_name=name).info.run_id
        Note(self._id, self._uri).write(path)
        params = [mlflow.entities.Param(key, str(value)[:LONGEST]) for key, value in settings.items()]
        for start in range(0, len(params), MOST):
            self._client.log_batch(self._id, params=params[start : start + MOST])

    def _goes_on(self, note: Note) -> bool:
        """Open a run again; False if there is no such run any more."""
        if note.store != self._uri:
            return False
        try:
            self._client.update_run(note.id, status="RUNNING")
        except _package().MlflowException:
            return False
        self._id = note.id
        return True

    def log(self, values: dict[str, float], epoch: int, *, complete: bool) -> None:
        """Log a metric for each number."""
        entities, now = _package().entities, int(1000 * time.time())
        metrics = [entities.Metric(name, value, now, epoch) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def finish(self, values: dict[str, float], *, failed: bool) -> None:
        """Log the results as ``summary/...`` and close the run."""
        if not self._id:
            return
        if values:
            self.log({f"summary/{name}": value for name, value in values.items()}, 0, complete=True)
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")
        self._id = ""


def _package() -> Any:
    """The package; raises ConfigError where it is not installed."""
    # It tells its makers how it is used, and refuses to write folders, unless it is told otherwise.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        import mlflow
    except ImportError:
        raise not_installed("mlflow") from None
    if not hasattr(mlflow, "MlflowClient"):  # a folder of that name
        raise not_installed("mlflow")
    return mlflow
