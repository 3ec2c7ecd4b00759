"""gnnpipe: train deep graph neural networks on one huge graph over several devices.

Nothing heavy is imported here, so that ``gnnpipe --help`` answers at once. Names are imported at first use.

>>> run = gnnpipe.train("Cora", model="gcnii", layers=32, stages=2)  # doctest: +SKIP
>>> run.summary["test_at_best_val"]  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from gnnpipe import errors, nn

if TYPE_CHECKING:
    from gnnpipe.api import Run, compare, load, open, plan, predict, resume, train, train_seeds  # noqa: A004
    from gnnpipe.config.commands import PlanConfig
    from gnnpipe.config.run import RunConfig
    from gnnpipe.graph.data import Graph
    from gnnpipe.run.callbacks.callback import STOP, Callback, RunInfo
    from gnnpipe.run.callbacks.csv_table import CSV
    from gnnpipe.run.callbacks.early_stopping import EarlyStopping
    from gnnpipe.run.callbacks.mlflow import MLflow
    from gnnpipe.run.callbacks.tensorboard import TensorBoard
    from gnnpipe.run.callbacks.wandb import WandB

__version__ = "0.1.0"
__all__ = [
    "CSV", "STOP", "Callback", "EarlyStopping", "Graph", "MLflow", "PlanConfig", "Run", "RunConfig",
    "RunInfo", "TensorBoard", "WandB", "compare", "errors", "load", "nn", "open", "plan", "predict", "resume",
    "train", "train_seeds",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from gnnpipe import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
