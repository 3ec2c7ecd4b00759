"""Callbacks by the names that ``--log`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from gnnpipe.config.run import Log
from gnnpipe.errors import ConfigError
from gnnpipe.run.callbacks.callback import Callback
from gnnpipe.run.callbacks.csv_table import CSV
from gnnpipe.run.callbacks.mlflow import MLflow
from gnnpipe.run.callbacks.tensorboard import TensorBoard
from gnnpipe.run.callbacks.wandb import WandB

KINDS: dict[Log, type[Callback]] = {"csv": CSV, "tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def named(names: Sequence[Log]) -> list[Callback]:
    """The callbacks of ``--log``; raises ConfigError as `check_installed`."""
    check_installed(names)
    return [KINDS[name]() for name in dict.fromkeys(names)]


def check_installed(names: Sequence[Log]) -> None:
    """Raise ConfigError for a tracker without its package, before anything is loaded. Imports none."""
    for name in names:
        if name != "csv" and not _is_installed(name):
            raise ConfigError(f"log: {name} is not installed; pip install 'gnnpipe[{name}]'")


def _is_installed(package: str) -> bool:
    """Whether there is a package, and not just a folder of its name, as trackers make them."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
