"""gnnpipe: train deep graph neural networks on one huge graph over several devices.

Nothing heavy is imported here, so that ``gnnpipe --help`` answers at once. Names are imported at first use.

>>> run = gnnpipe.train("Cora", model="gcnii", layers=32, stages=2)  # doctest: +SKIP
>>> run.summary["test_at_best_val"]  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from gnnpipe import errors

if TYPE_CHECKING:
    from gnnpipe.api import Run, compare, load, open, plan, resume, train  # noqa: A004
    from gnnpipe.config.commands import PlanConfig
    from gnnpipe.config.run import RunConfig
    from gnnpipe.graph.data import Graph

__version__ = "0.1.0"
__all__ = [
    "Graph", "PlanConfig", "Run", "RunConfig", "compare", "errors", "load", "open", "plan", "resume", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from gnnpipe import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
