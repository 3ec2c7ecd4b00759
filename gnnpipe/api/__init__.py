"""Runs from Python: in a script, a notebook, a thread, or each process of torchrun.

A script needs no ``if __name__ == "__main__":``, as the processes of a run import this package and not the
script.
"""

from gnnpipe.api.calls import compare, load, open, plan, predict  # noqa: A004 (it is written gnnpipe.open)
from gnnpipe.api.run import Run
from gnnpipe.api.training import resume, train, train_seeds
from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.run import RunConfig
from gnnpipe.graph.data import Graph
from gnnpipe.run.callbacks.callback import STOP, Callback, RunInfo
from gnnpipe.run.callbacks.csv_table import CSV
from gnnpipe.run.callbacks.early_stopping import EarlyStopping
from gnnpipe.run.callbacks.mlflow import MLflow
from gnnpipe.run.callbacks.tensorboard import TensorBoard
from gnnpipe.run.callbacks.wandb import WandB

__all__ = [
    "CSV", "STOP", "Callback", "EarlyStopping", "Graph", "MLflow", "PlanConfig", "Run", "RunConfig",
    "RunInfo", "TensorBoard", "WandB", "compare", "load", "open", "plan", "predict", "resume", "train",
    "train_seeds",
]  # fmt: skip
