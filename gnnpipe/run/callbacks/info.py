"""The run as callbacks see it when training starts."""

from __future__ import annotations

from gnnpipe.nn.metrics import LOWER_IS_BETTER
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.taking import PLAN
from gnnpipe.run.callbacks.callback import RunInfo


def info_of(folder: RunFolder) -> RunInfo:
    """The run in a folder that holds its settings, its plan, and the records of the epochs that are done."""
    plan = folder.read(PLAN)
    metric = plan["metric"]
    return RunInfo(folder.path, folder.settings(), plan, metric, metric in LOWER_IS_BETTER, folder.lines())
