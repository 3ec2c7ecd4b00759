"""Answers about nodes, and their columns in files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gnnpipe.errors import ConfigError
from gnnpipe.files.columns import Column, check_columns_file, write_columns
from gnnpipe.files.spool import large_array
from gnnpipe.graph.data import Task
from gnnpipe.graph.ids import NodeIds
from gnnpipe.system.failures import advice, reason

# Rows that are computed at once.
_ROWS = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Answers:
    """Rows of numbers about nodes, in the order in which the graph was given."""

    nodes: np.ndarray
    """int64 ``[n]``: numbers of the nodes that the rows are about; all nodes, unless some were asked for."""
    ids: NodeIds | None = None
    """Ids of all nodes in the files that the graph came from; None where they are 0, 1, 2 and so on."""
    peak_memory_bytes: tuple[int, ...] = ()
    """Peak memory of each process that has computed the rows."""

    @property
    def names(self) -> np.ndarray:
        """The id of each row's node: int64 ``[n]``, or texts."""
        return self.nodes if self.ids is None else self.ids.of(self.nodes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, whole or not at all; one that is there already is replaced.

        Args:
            path: the file; its name ends in .npz, .csv or .parquet.

        Raises:
            ConfigError: it can't be written.
        """
        path = Path(path)
        check_columns_file(path, overwrite=True)
        try:
            write_columns(path, [self._node_column(), *self._columns()], len(self.nodes), self._also())
        except OSError as error:
            raise ConfigError(
                f"out: can't write '{path}' ({reason(error, str(path))}); {advice(error)}"
            ) from None

    def with_rows(self, rows: np.ndarray, peak_memory_bytes: tuple[int, ...]) -> Answers:
        """The same answers with the rows that processes have computed, and the memory that each took."""
        raise NotImplementedError

    def _node_column(self) -> Column:
        ids = self.ids
        if ids is None:
            return Column("node", np.dtype(np.int64), ("node",), lambda rows: self.nodes[rows])
        return Column("node", ids.dtype, ("node",), lambda rows: ids.of(self.nodes[rows]))

    def _columns(self) -> list[Column]:
        raise NotImplementedError

    def _also(self) -> dict[str, np.ndarray]:
        return {}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Embeddings(Answers):
    """Hidden rows of a layer."""

    rows: np.ndarray
    """float32 ``[n, hidden]``; mapped from a file where it is large."""
    layer: int
    """Number of convolutions that the rows have gone through."""

    def __repr__(self) -> str:
        return f"Embeddings({self.rows.shape[0]} nodes, {self.rows.shape[1]} columns, layer {self.layer})"

    def with_rows(self, rows: np.ndarray, peak_memory_bytes: tuple[int, ...]) -> Embeddings:
        """As `Answers.with_rows`."""
        return replace(self, rows=rows, peak_memory_bytes=peak_memory_bytes)

    def _columns(self) -> list[Column]:
        width = self.rows.shape[1]
        heads = tuple(f"h{index}" for index in range(width))
        return [Column("rows", np.dtype(np.float32), heads, lambda rows: self.rows[rows], flat=False)]

    def _also(self) -> dict[str, np.ndarray]:
        return {"layer": np.array(self.layer)}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictions(Answers):
    """Predictions of nodes. Arrays other than the logits are computed when they are first read."""

    logits: np.ndarray
    """float32 ``[n, num_classes]``; for values standardised predictions. Mapped from a file where it is
    large."""
    task: Task
    """Kind of prediction."""
    class_names: tuple[str, ...] = ()
    """Name of each class; empty where classes are just numbers."""
    value_mean: tuple[float, ...] = ()
    """For regression, mean of each value over the training nodes of the run."""
    value_deviation: tuple[float, ...] = ()
    """For regression, standard deviation of each value."""

    def __repr__(self) -> str:
        columns = "values" if self.task == "regression" else "classes"
        return f"Predictions({self.logits.shape[0]} nodes, {self.logits.shape[1]} {columns})"

    def with_rows(self, rows: np.ndarray, peak_memory_bytes: tuple[int, ...]) -> Predictions:
        """As `Answers.with_rows`."""
        return replace(self, logits=rows, peak_memory_bytes=peak_memory_bytes)

    @cached_property
    def probabilities(self) -> np.ndarray | None:
        """float32 ``[n, num_classes]``: of one class a node they add up to 1; of several labels each is a
        label's own. None for regression."""
        if self.task == "regression":
            return None
        return self._filled(self._probabilities, np.float32, self.logits.shape)

    @cached_property
    def classes(self) -> np.ndarray | None:
        """The predicted class of each node, int64 ``[n]``; with several labels a node bool ``[n,
        num_labels]``: those whose probability is above one half. None for regression."""
        if self.task == "regression":
            return None
        if self.task == "multilabel":
            return self._filled(self._classes, np.bool_, self.logits.shape)
        return self._filled(self._classes, np.int64, self.logits.shape[:1])

    @cached_property
    def values(self) -> np.ndarray | None:
        """float64 ``[n, num_values]``: for regression, the predicted values in their own units; else None."""
        if self.task != "regression":
            return None
        return self._filled(self._values, np.float64, self.logits.shape)

    def _filled(self, make: Callable[[slice], np.ndarray], dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        """All rows of ``make``, made block by block."""
        result = large_array(dtype, shape)
        for start in range(0, len(result), _ROWS):
            rows = slice(start, start + _ROWS)
            result[rows] = make(rows)
        return result

    def _probabilities(self, rows: slice) -> np.ndarray:
        logits = torch.from_numpy(np.array(self.logits[rows]))
        several = self.task == "multilabel"
        return (torch.sigmoid(logits) if several else torch.softmax(logits, dim=1)).numpy()

    def _classes(self, rows: slice) -> np.ndarray:
        logits = self.logits[rows]
        return np.asarray(logits > 0) if self.task == "multilabel" else logits.argmax(axis=1)

    def _values(self, rows: slice) -> np.ndarray:
        return np.array(self.value_mean) + np.array(self.value_deviation) * self.logits[rows].astype(float)

    def _columns(self) -> list[Column]:
        names = self._names()
        logits = _wide("logits", "logit", names, np.float32, lambda rows: self.logits[rows])
        if self.task == "regression":
            return [_wide("values", "value", names, np.float64, self._values), logits]
        if self.task == "multilabel":
            classes = _wide("classes", "class", names, np.uint8, self._classes)
        else:
            number = np.dtype(np.int64)
            classes = Column("classes", number, ("class",), self._classes, words=self.class_names)
        return [
            classes,
            _wide("probabilities", "probability", names, np.float32, self._probabilities),
            logits,
        ]

    def _names(self) -> Sequence[str]:
        width = self.logits.shape[1]
        if self.task == "regression" and width == 1:
            return ("",)
        return self.class_names or tuple(map(str, range(width)))

    def _also(self) -> dict[str, np.ndarray]:
        return {"class_names": np.array(self.class_names)} if self.class_names else {}


def _wide(
    name: str, stem: str, names: Sequence[str], dtype: type, block: Callable[[slice], np.ndarray]
) -> Column:
    """A column for each class, label or value."""
    heads = tuple(f"{stem}_{of}" if of else stem for of in names)
    return Column(name, np.dtype(dtype), heads, block, flat=False)
