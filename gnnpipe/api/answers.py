"""Answers of a run, as its methods ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnnpipe.api.asking import in_memory, named, reporter_for, threads_kept
from gnnpipe.config.commands import PredictConfig
from gnnpipe.config.keywords import configured
from gnnpipe.errors import ConfigError
from gnnpipe.records.taking import check_is_run
from gnnpipe.run.answers.ask import ask
from gnnpipe.run.answers.results import Answers
from gnnpipe.system.pages import ask_for_huge_pages


def answers_of(path: Path, own: Any, data: Any, options: Mapping[str, Any]) -> Answers:
    """Ask a run about the nodes of a graph.

    Args:
        path: folder of the run.
        own: the graph in memory that it was trained on, if this process has it.
        data: another graph, as for `gnnpipe.predict`.
        options: as for `gnnpipe.predict`, and ``embed``.

    Raises:
        UserError, TrainingError, StoppedError: as `gnnpipe.predict`.
    """
    check_is_run(path, "run")
    fields = dict(options)
    reporter = reporter_for(fields.pop("verbose", False))
    nodes = fields.pop("nodes", "all")
    if isinstance(nodes, str):
        fields["nodes"], nodes = nodes, None
    if data is None and not fields.keys() & {"dataset", "graph"}:
        data = own
    if data is not None and not in_memory(data):
        for key in ("dataset", "graph"):
            if key in fields:
                raise ConfigError(f"{key}: data names the graph already; leave one of the two out")
        name = named(data)
        fields |= {"graph": name["graph"], "dataset": None if name["graph"] else name["dataset"]}
    wanted = configured(PredictConfig(), fields)
    ask_for_huge_pages()
    with threads_kept():
        return ask(path, wanted, reporter, data if in_memory(data) else None, nodes)
