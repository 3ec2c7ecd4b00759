"""A run, as Python sees it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gnnpipe.api.answers import answers_of
from gnnpipe.api.asking import path_of
from gnnpipe.comm.world import speaks
from gnnpipe.config.keywords import configured
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, shown
from gnnpipe.export.module import export, to_module
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.taking import SUMMARY
from gnnpipe.report.notebook import frame
from gnnpipe.report.show import html_of, one_line, show
from gnnpipe.run.answers.results import Embeddings, Predictions

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Run:
    """A run, read from its folder: one that is finished, still goes on or was interrupted."""

    folder: Path
    data: Any = field(default=None, compare=False)
    """The graph in memory that this process has trained it on; predictions are of that unless another is
    given. None for a run on a graph by name, and for one that was opened."""

    def __fspath__(self) -> str:
        """The folder: a run stands for it wherever a path is expected."""
        return str(self.folder)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done and the summary is written."""
        return (self.folder / SUMMARY).exists()

    @property
    def config(self) -> RunConfig:
        """The settings of the run, with the values of its preset filled in."""
        return configured(RunConfig(), RunFolder(self.folder).settings() | {"out": self.folder})

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; raises ConfigError if the run is not finished."""
        folder = RunFolder(self.folder)
        if not self.finished:
            raise ConfigError(f"run: '{self.folder}' has no {SUMMARY} yet; {folder.saved()}")
        return folder.read(SUMMARY)

    def records(self) -> list[dict[str, object]]:
        """One record for each epoch so far, as in records.jsonl."""
        return RunFolder(self.folder).lines()

    def predict(self, data: Any = None, **options: Any) -> Predictions:
        """Predict the nodes of a graph with the best weights so far; see `gnnpipe.predict`."""
        if "embed" in options:
            raise ConfigError("embed: hidden rows come from the method embed of a run")
        answers = answers_of(self.folder, self.data, data, options)
        assert isinstance(answers, Predictions)
        return answers

    def embed(self, layer: int = -1, data: Any = None, **options: Any) -> Embeddings:
        """Hidden rows of the nodes of a graph, with the best weights so far.

        Args:
            layer: number of convolutions that the rows have gone through. 0: those of the input layer, in
                models that have one (gcnii, resgcn). -1: the last ones, of which logits are made; -2: those
                before.
            data: as for `predict`.
            options: as for `predict`.

        Raises:
            UserError: the model has no such layer. Also as `predict`.
        """
        if isinstance(layer, bool) or not isinstance(layer, int):
            raise ConfigError(f"layer: '{shown(layer)}' can't be used; expected a whole number")
        answers = answers_of(self.folder, self.data, data, {**options, "embed": layer})
        assert isinstance(answers, Embeddings)
        return answers

    def to_pyg(self, *, model: str | None = None) -> torch.nn.Module:
        """The model with its best weights so far, as a module of torch_geometric's layers in evaluation mode.

        ``model(x, edge_index, edge_weight=None)`` takes the tensors of the graph as they were before training
        and returns logits or, with regression, values in their own units. It is what `export` writes; the
        docstring of its ``forward`` says what it expects. ``torch.save`` its ``state_dict()``, not itself, as
        its class is in no file.

        A model of one's own is a module of gnnpipe's layers: ``model(data)``, with a
        `torch_geometric.data.Data`.

        Args:
            model: place of the code of a model of one's own, if its file has moved, or lies in the run's
                folder, which may be somebody else's.

        Raises:
            UserError: the run has no weights yet, or its files are damaged.
        """
        return to_module(RunFolder(self.folder), model)

    def export(
        self, out: str | os.PathLike[str], *, overwrite: bool = False, model: str | None = None
    ) -> Path:
        """Write the module that `to_pyg` returns: its code, which needs no gnnpipe, and its weights.

        Args:
            out: folder, which appears when it is complete.
            overwrite: whether to replace an exported model that stands there.
            model: as for `to_pyg`.

        Returns:
            ``out``.

        Raises:
            UserError: something else stands there or it can't be written; also as `to_pyg`.
        """
        path = path_of("out", out, "a folder to write")
        export(RunFolder(self.folder), path, overwrite=overwrite, model=model)
        return path

    def frame(self) -> pandas.DataFrame:
        """The records as a DataFrame, by epoch; raises ConfigError where pandas is not installed."""
        return frame(self.records(), "epoch")

    def show(self) -> None:
        """Print the result and draw the learning curves, as ``gnnpipe show`` does; in a notebook, show both.

        Under torchrun only the first process does.

        Raises:
            ConfigError: the folder holds no run any more.
            DataError: a file of the run is damaged.
        """
        if speaks():
            show(str(self.folder), as_json=False)

    def __repr__(self) -> str:
        return one_line(self.folder)

    def _repr_html_(self) -> str:
        return html_of(self.folder)
