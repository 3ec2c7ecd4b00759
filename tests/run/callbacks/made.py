"""Records and runs for callbacks, without a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from gnnpipe.files.reading import Content
from gnnpipe.records.folder import RunFolder
from gnnpipe.run.callbacks.callback import Callback, RunInfo
from gnnpipe.run.callbacks.host import Answer, Host
from gnnpipe.run.callbacks.info import info_of
from gnnpipe.run.reporter import Quiet

WRITTEN = Path(__file__).parents[2] / "data" / "written-2026-11" / "refreshed"
"""A run of nine epochs, with evaluations, checks of the gradient and refreshes."""
CONFIG = """\
epochs: 9
lr: 0.01
model: gcnii
graph: null
undirected: false
optimizer:
  betas:
  - 0.5
  - 0.9
"""
EVALUATED = [1, 3, 5, 7, 8]


class Heard(Quiet):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []

    def remark(self, line: str, *, warning: bool = False) -> None:
        self.lines.append((line, warning))


def line(epoch: int, **values: Any) -> Content:
    """A record with few numbers."""
    return {"epoch": epoch, "loss": 1.0, "lr": 0.1, "seconds": 1.0, "bytes_sent": {}, **values}


def written() -> list[Content]:
    """The records of the run."""
    return [json.loads(text) for text in (WRITTEN / "records.jsonl").read_text().splitlines()]


def begun(path: Path, epochs: int = 0) -> RunInfo:
    """The run in a folder of its own, as it is when so many epochs are done."""
    if not path.exists():
        shutil.copytree(WRITTEN, path)
        (path / "config.yaml").write_text(CONFIG)
    records = [json.dumps(record) + "\n" for record in written()[:epochs]]
    (path / "records.jsonl").write_text("".join(records))
    return info_of(RunFolder(path))


def told(host: Host, records: list[Content]) -> list[Answer]:
    return [host.epoch(record) for record in records]


def log(callback: Callback, run: RunInfo, until: int, *, end: bool) -> None:
    """What a run tells a callback, from its first epoch on."""
    host = Host([callback], Heard())
    host.start(run)
    answers = told(host, written()[run.first_epoch : until])
    assert answers == [Answer()] * len(answers), host.error
    if end:
        host.end(json.loads((WRITTEN / "summary.json").read_text()))
    else:
        callback.on_exception(RuntimeError("the end"))
