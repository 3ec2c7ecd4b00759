"""The best weights of a run so far, and all that is needed to apply them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gnnpipe.checkpoint.names import MODEL
from gnnpipe.config.resolved import Resolved
from gnnpipe.engine.stage import Stage
from gnnpipe.errors import ConfigError, DataError, shown
from gnnpipe.files.reading import map_tensors
from gnnpipe.files.writing import copy_file
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph, Task
from gnnpipe.graph.scaled_features import FeatureScaling
from gnnpipe.nn.metrics import OF_VALUES
from gnnpipe.nn.models import DataSizes, ModelSpec, fitted, spec_of
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.plan_file import StoredPlan
from gnnpipe.records.taking import SUMMARY
from gnnpipe.system.failures import advice, reason
from gnnpipe.system.words import short_number


@dataclass(frozen=True)
class TrainedRun:
    """A run with weights; it may still go on."""

    folder: RunFolder
    weights: Path
    """A copy of its model.safetensors, which a run that goes on can't replace meanwhile."""
    about: dict[str, str]
    """The metadata of that file."""
    sizes: DataSizes
    """Sizes of the graph that the model is made for."""
    stored: StoredPlan
    """Its plan.json."""

    @classmethod
    def read(cls, folder: RunFolder, config: Resolved, scratch: Path) -> TrainedRun:
        """Read a run.

        Args:
            folder: of the run.
            config: its settings.
            scratch: folder for a copy of the weights.

        Raises:
            ConfigError: it has no weights yet.
            DataError: a file is damaged.
        """
        copy = scratch / MODEL
        try:
            copy_file(folder.path / MODEL, copy)
        except FileNotFoundError:
            raise ConfigError(
                f"run: '{folder.path}' has no weights yet ({MODEL} is absent), as the run has not been "
                "evaluated; wait for its first evaluation, or train it"
            ) from None
        except OSError as error:
            path = folder.path / MODEL
            raise DataError(f"'{path}' can't be read ({reason(error, str(path))}); {advice(error)}") from None
        stored = folder.stored_plan()
        asked = _spec(config, stored.graph.sizes)
        try:
            about, tensors = map_tensors(copy)
            model = fitted(asked, tensors)
        except ValueError as error:
            raise DataError(
                f"'{folder.path / MODEL}' is damaged ({shown(str(error))}); bring it back, or run it anew"
            ) from None
        sizes = DataSizes(model.num_features, model.num_classes, model.edge_dim, model.num_edge_types)
        return cls(folder, copy, about, sizes, stored)

    @property
    def unfinished(self) -> str:
        """A line about a run that is not finished; empty for one that is."""
        if (self.folder.path / SUMMARY).exists():
            return ""
        epoch, best = self.about.get("best_epoch", ""), short_number(self.about.get("best_val", "?"))
        of_epoch = f", of epoch {int(epoch) + 1} (validation {best})" if epoch.isdecimal() else ""
        return f"'{self.folder.path}' is not finished: these are its best weights so far{of_epoch}"

    @property
    def task(self) -> Task:
        """Kind of prediction."""
        graph = self.stored.graph
        if graph.task in ("multiclass", "binary", "multilabel", "regression"):
            return graph.task  # type: ignore[return-value]  # mypy does not narrow text by a tuple
        if self.stored.metric in OF_VALUES:
            return "regression"
        return "multilabel" if self.stored.metric == "f1" else "multiclass"

    @property
    def scaling(self) -> FeatureScaling:
        """The numbers by which the features of its graph were scaled."""
        return self.stored.graph.scaling

    def check_scaling(self, config: Resolved) -> None:
        """Refuse another graph whose features can't be scaled as the run's were.

        Raises:
            DataError: a version that did not keep the numbers has written the run.
        """
        wanted = {
            "standardize-features": config.standardize_features and not self.scaling.columns.mean,
            "normalize-features": config.normalize_features and self.scaling.least is None,
            "features": config.features == "degree" and not self.scaling.degrees.mean,
        }
        missing = next((key for key, absent in wanted.items() if absent), None)
        if missing:
            raise DataError(
                f"{missing}: the features of '{self.folder.path}' were scaled by numbers of its own graph, "
                "which this run does not hold, as an older version wrote it; go on with it for an epoch "
                "(gnnpipe train --resume, with more --epochs), which writes them"
            )

    def spec(self, config: Resolved, graph: Graph) -> ModelSpec:
        """The model, for a graph.

        Raises:
            DataError: the graph has other numbers of features, of nodes or of edges, than the model reads.
        """
        if graph.num_features != self.sizes.num_features:
            raise DataError(
                f"features: '{graph.name}' has {graph.num_features:,}, and '{self.folder.path}' was trained "
                f"on {self.sizes.num_features:,}; give each node the same features, in the same order"
            )
        spec = self.model(config, sparse_features=isinstance(graph.features, Csr))
        edges = graph.edge_dim, graph.num_edge_types
        if spec.own is not None and spec.reads_edges and edges != (spec.edge_dim, spec.num_edge_types):
            raise DataError(
                f"edges: those of '{graph.name}' have {edges[0]:,} features and {edges[1]:,} types, and "
                f"'{self.folder.path}' was trained on {spec.edge_dim:,} and {spec.num_edge_types:,}; give "
                "them the same ones"
            )
        return spec

    def model(self, config: Resolved, *, sparse_features: bool = False) -> ModelSpec:
        """The model."""
        return _spec(config, replace(self.sizes, sparse_features=sparse_features))


def load_weights(stage: Stage, path: Path) -> None:
    """Take over the weights of a stage's layers from a file that `TrainedRun.read` has checked."""
    _, tensors = map_tensors(path)
    for layer in stage.held_layers:
        names = layer.module.state_dict()
        layer.module.load_state_dict({name: tensors[f"{layer.spec.name}.{name}"] for name in names})


def _spec(config: Resolved, sizes: DataSizes) -> ModelSpec:
    return spec_of(config, sizes, config.seed, config.gcnii)
