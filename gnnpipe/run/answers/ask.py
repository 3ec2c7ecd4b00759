"""Asking a run: from what a user wants to answers, and to a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnnpipe.config.commands import PredictConfig
from gnnpipe.files.columns import check_columns_file
from gnnpipe.records.folder import RunFolder
from gnnpipe.run.answers.predict import answer
from gnnpipe.run.answers.questions import Request
from gnnpipe.run.answers.results import Answers
from gnnpipe.run.answers.settings import settings_for
from gnnpipe.run.reporter import Reporter


def ask(
    path: Path,
    wanted: PredictConfig,
    reporter: Reporter,
    data: Any = None,
    nodes: Sequence[int] | np.ndarray | None = None,
) -> Answers:
    """Predict, or compute hidden rows, and write them to a file if that is wanted.

    Args:
        path: folder of the run.
        wanted: what the user wants.
        reporter: shows what is being done.
        data: a graph in memory, as for `as_unlabelled`; None for the one that the settings name.
        nodes: numbers of the wanted nodes; None for those of ``wanted``.

    Raises:
        UserError, TrainingError, StoppedError: as `answer`.
    """
    out = None if wanted.out is None else Path(wanted.out)
    if out is not None:
        check_columns_file(out, overwrite=wanted.overwrite)
    folder = RunFolder(path)
    stored = folder.stored_plan()
    shape = stored.plan.num_stages, stored.plan.num_parts
    asked = settings_for(wanted, path, folder.settings(), shape, given=data is not None)
    if os.environ.get("RANK", "0") == "0":
        for line in asked.lines:
            reporter.remark(line)
    of_interest = wanted.nodes if nodes is None else nodes
    return answer(Request(folder, asked.config, asked.own, data, wanted.embed, of_interest, out), reporter)
