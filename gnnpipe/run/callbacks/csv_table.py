"""Records as a CSV table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from gnnpipe.files.reading import Content
from gnnpipe.files.writing import append_text, make_folder, write_file
from gnnpipe.records.taking import LOGS
from gnnpipe.run.callbacks.callback import Callback, RunInfo
from gnnpipe.run.callbacks.values import SPLITS, measured, scored


class CSV(Callback):
    """Writes one row an epoch, with the names of `measured` and `scored` as its head; open numbers are empty.

    A run that goes on keeps the rows of its epochs so far.

    Args:
        path: of the file, which is replaced; by default logs/records.csv in the run's folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._given = None if path is None else Path(path)
        self._path = Path()
        self._metric = ""
        self._columns: list[str] = []
        self._rows: list[dict[str, float]] = []

    def on_train_start(self, run: RunInfo) -> None:
        """Write the head, and the rows of epochs that are done."""
        self._path = self._given or run.folder / LOGS / "records.csv"
        self._metric = run.metric
        scores = [f"{split}/{run.metric}" for split in SPLITS]
        self._columns = ["epoch", "train/loss", *scores, "lr", "seconds", "elapsed"]
        self._rows = [self._row(record) for record in run.records]
        make_folder(self._path.parent)
        self._write()

    def on_epoch_end(self, record: Content) -> None:
        """Add a row; write the file anew if there is another column."""
        row = self._row(record)
        self._rows.append(row)
        if row.keys() <= set(self._columns):
            append_text(self._path, self._text([row]))
        else:
            self._write()

    def on_evaluate(self, record: Content) -> None:
        """Complete the last row if the epoch was evaluated after it was written."""
        row = self._row(record)
        if row.keys() != self._rows[-1].keys():
            self._rows[-1] = row
            self._write()

    def _row(self, record: Content) -> dict[str, float]:
        return {"epoch": record["epoch"], **measured(record), **scored(record, self._metric)}

    def _write(self) -> None:
        """Write the whole file, with a column for every name that occurs."""
        known = dict.fromkeys(self._columns)
        self._columns = list(known | {name: None for row in self._rows for name in row})
        write_file(self._path, ",".join(self._columns) + "\n" + self._text(self._rows))

    def _text(self, rows: Sequence[dict[str, float]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, restval="", lineterminator="\n").writerows(rows)
        return text.getvalue()
