"""Graph: a graph with features, labels and masks, checked as it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gnnpipe.config.catalog import IN_MEMORY
from gnnpipe.errors import DataError
from gnnpipe.graph.checks import (
    check_adjacency,
    check_features,
    check_masks,
    check_outputs,
    check_used_labels,
)
from gnnpipe.graph.choices import Choices
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.edge_data import EdgeData, check_edge_data, renumbered
from gnnpipe.graph.folder.write import save_graph
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.labels import UNLABELLED, check_rows
from gnnpipe.graph.pieces import (
    features_made,
    inputs_from,
    labels_from,
    num_nodes_of,
)
from gnnpipe.graph.scaled_features import (
    UNSCALED,
    FeatureScaling,
    feature_columns,
    least_entry,
    normalized_features,
    standardized_features,
)
from gnnpipe.graph.sources.objects import EdgeKeys, of_networkx, of_pyg, of_scipy
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.system.steps import Step, silently

Task = Literal["multiclass", "binary", "multilabel", "regression"]


@dataclass(frozen=True, repr=False)
class Graph:
    """One graph with features, labels and masks; checked as it is made.

    Raises:
        DataError: if shapes disagree, an edge names a node that does not exist, a feature is not finite, a
            label lies outside the classes, masks overlap, or that of training or validation is empty.
    """

    name: str
    """Name of the graph in printed lines and folders."""
    adjacency: Csr
    """``[num_nodes, num_nodes]``: entry (i, j) counts the edges from j to i, so row i lists the nodes that
    node i aggregates from."""
    features: Tensor | Csr
    """``[num_nodes, num_features]``: float32, dense or sparse; or float16 or bfloat16. May be mapped from
    disk."""
    labels: Tensor
    """int64 ``[num_nodes]`` class numbers, or float32 ``[num_nodes, num_classes]`` of 0 and 1. For regression
    float32 ``[num_nodes]`` or ``[num_nodes, num_classes]``. Nodes without a label are in no mask and have -1
    or NaN."""
    num_classes: int
    """Number of classes, or of labels that a node may have, or of values to be predicted. 0 for a graph
    without labels, which runs can predict and none can be trained on; its masks are empty."""
    train_mask: Tensor
    """bool ``[num_nodes]``."""
    val_mask: Tensor
    """bool ``[num_nodes]``."""
    test_mask: Tensor
    """bool ``[num_nodes]``; empty where test labels are hidden."""
    notes: tuple[str, ...] = ()
    """Lines for the user: each names something that was left out or changed while loading."""
    weighted: bool = False
    """Whether entries of the adjacency are weights of edges. Parallel edges are then entries of their own, in
    the order given, as they are where edges have features or types; else an entry counts them."""
    ids: NodeIds | None = None
    """Ids of the nodes in the files they came from; None where they are 0, 1, 2 and so on."""
    class_names: tuple[str, ...] = ()
    """Name of each class; empty where classes are just numbers."""
    regression: bool = False
    """Whether labels are values to be predicted, and not classes."""
    scaling: FeatureScaling = UNSCALED
    """The numbers by which the features are scaled, if they were scaled here."""
    hidden_test: Tensor | None = None
    """bool ``[num_nodes]``: test nodes whose labels are hidden, which are in no mask; None for none."""
    edge_attr: Tensor | None = None
    """float32 ``[num_edges, edge_dim]``: features of the edges, in the order of the adjacency's entries; None
    if they have none. May be mapped from disk."""
    edge_type: Tensor | None = None
    """int64 ``[num_edges]``: types of the edges, from 0 on; None if they have none."""
    edge_type_names: tuple[str, ...] = ()
    """Name of each type of edges; empty where types are just numbers."""

    def __post_init__(self) -> None:
        """Check everything that a user's data may get wrong; raises DataError."""
        check_adjacency(self.adjacency, weighted=self.weighted, apart=self.edge_data.exists)
        check_edge_data(self.edge_data, self.num_edges, self.edge_type_names)
        check_features(self.features, self.num_nodes)
        check_masks(self.masks, self.num_nodes, labelled=self.num_classes > 0)
        check_rows(self.labels, self.num_nodes)
        check_outputs(self.labels, self.num_classes, self.class_names, regression=self.regression)
        used = self.labels[self.train_mask | self.val_mask | self.test_mask]
        check_used_labels(used, self.num_classes, regression=self.regression)

    def __repr__(self) -> str:
        """Name and sizes; the arrays themselves would fill a screen."""
        sizes = ("num_nodes", "num_edges", "num_features", "num_classes", "task", "weighted")
        return f"Graph({', '.join(f'{key}={getattr(self, key)!r}' for key in ('name', *sizes))})"

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.adjacency.num_rows

    @property
    def num_edges(self) -> int:
        """Number of directed edges; without weights, features and types, parallel edges count once."""
        return self.adjacency.num_entries

    @property
    def num_features(self) -> int:
        """Columns of the feature matrix."""
        return self.features.num_cols if isinstance(self.features, Csr) else self.features.shape[1]

    @property
    def edge_data(self) -> EdgeData:
        """Features and types of the edges."""
        return EdgeData(self.edge_attr, self.edge_type)

    @property
    def edge_dim(self) -> int:
        """Columns of the edges' features; 0 if they have none."""
        return self.edge_data.edge_dim

    @property
    def num_edge_types(self) -> int:
        """The largest type of an edge plus one, or the number of their names; 0 if edges have no types."""
        return 0 if self.edge_type is None else max(self.edge_data.num_types, len(self.edge_type_names))

    @property
    def masks(self) -> dict[str, Tensor]:
        """The three masks by the name of their split."""
        return {"train": self.train_mask, "val": self.val_mask, "test": self.test_mask}

    def nodes_of(self, split: str) -> Tensor:
        """Mask of the nodes of a split, bool ``[num_nodes]``, with test nodes whose labels are hidden."""
        mask = self.masks[split]
        return mask if split != "test" or self.hidden_test is None else mask | self.hidden_test

    @property
    def task(self) -> Task:
        """Kind of prediction, from the shape of the labels and the number of classes."""
        if self.regression:
            return "regression"
        if self.labels.dim() == 2:
            return "multilabel"
        return "binary" if self.num_classes == 2 else "multiclass"

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Any,
        features: Any,
        labels: Any,
        masks: tuple[Any, Any, Any] | None = None,
        *,
        weight: Any = None,
        edge_attr: Any = None,
        edge_type: Any = None,
        num_classes: int | None = None,
        name: str = "graph",
        notes: tuple[str, ...] = (),
        **choices: Any,
    ) -> Graph:
        """Build from arrays or tensors, as those of PyG's ``Data``.

        Args:
            edge_index: whole numbers ``[2, num_edges]``, row 0 the sources and row 1 the targets.
            features: ``[num_nodes, num_features]``, dense or a sparse matrix (SciPy's or torch's). A dense
                matrix with few non-zeros is stored sparse. Or ``"degree"`` or ``"laplacian:16"``, to make
                them from the edges (`gnnpipe.graph.made_features`).
            labels: ``[num_nodes]`` class numbers, ``[num_nodes, num_classes]`` of 0 and 1, or
                numbers to be predicted as they are. NaN stands for no label, as does -1 among classes; nodes
                without one are taken out of the masks. Text names classes, None stands for none. None in
                place of all of them for a graph that is only to be predicted.
            masks: training, validation and test masks, ``[num_nodes]`` of bool, or of 0 and 1; None in place
                of the last where test labels are hidden. None for a seeded split.
            weight: weights of the edges, ``[num_edges]``.
            edge_attr: features of the edges, ``[num_edges]`` or ``[num_edges, edge_dim]``.
            edge_type: types of the edges, whole numbers from 0 on, ``[num_edges]``.
            num_classes: number of classes; by default the largest label plus one.
            name: name of the graph in printed lines.
            notes: lines for the user about the arguments themselves.
            choices: fields of `Choices`: ``undirected``, ``task``, ``split``, ``make_split``.

        Raises:
            DataError: an argument can't be converted without loss, or the class refuses the result.
            ConfigError: a choice is not known.
        """
        if isinstance(features, str):
            features, choices = None, choices | {"features": features}
        raw = RawGraph(
            edge_index, features, labels, masks, notes, weight, edge_attr=edge_attr, edge_type=edge_type
        )
        if labels is None:
            return cls.unlabelled(raw, name, Choices.given(choices))
        return cls.from_raw(raw, name, Choices.given(choices), num_classes)

    @classmethod
    def from_pyg(cls, data: Any, *, name: str = IN_MEMORY, **choices: Any) -> Graph:
        """Build from a ``torch_geometric.data.Data``.

        Args:
            data: with ``edge_index``, ``x``, ``y`` and perhaps ``edge_weight``, ``edge_attr``, ``edge_type``
                and the three masks. A note names what else it has.
            name: name of the graph in printed lines.
            choices: fields of `Choices`, such as ``features="degree"`` for a Data without ``x``.

        Raises:
            DataError, ConfigError: as `from_edge_index`.
        """
        return cls.from_raw(of_pyg(data, name), name, Choices.given(choices))

    @classmethod
    def from_scipy(
        cls,
        adjacency: Any,
        features: Any,
        labels: Any,
        masks: tuple[Any, Any, Any] | None = None,
        *,
        rows: Literal["sources", "targets"],
        **arguments: Any,
    ) -> Graph:
        """Build from a SciPy sparse matrix.

        Args:
            adjacency: ``[num_nodes, num_nodes]``. Entries that are not all 1 are the edges' weights.
                ``edge_attr`` and ``edge_type`` have a row for each entry, as ``scipy.sparse.coo_matrix``
                orders them.
            features: as for `from_edge_index`, and so are ``labels`` and ``masks``.
            rows: side of an edge that rows stand for: entry (i, j) is an edge from i to j with ``"sources"``,
                and one from j to i with ``"targets"``: node i then aggregates from those that its row lists.
                Nothing to choose in a symmetric matrix.
            arguments: other arguments of `from_edge_index`.

        Raises:
            DataError, ConfigError: as `from_edge_index`.
        """
        edge_index, weight = of_scipy(adjacency, rows)
        return cls.from_edge_index(edge_index, features, labels, masks, weight=weight, **arguments)

    @classmethod
    def from_networkx(
        cls,
        graph: Any,
        *,
        label: str,
        features: str | Sequence[str] = "degree",
        split: str | None = None,
        weight: str | None = None,
        edge_features: Sequence[str] = (),
        edge_type: str | None = None,
        name: str | None = None,
        **choices: Any,
    ) -> Graph:
        """Build from a networkx graph: directed if its class is, and parallel edges if it is a multigraph's.

        Args:
            graph: nodes may be anything; their names are kept as `ids`.
            label: attribute of the nodes that is their label: a number, or text, whose different values are
                the classes. None or an absent attribute stands for no label.
            features: attributes of the nodes, each a number or a list of numbers; or ``"degree"`` or
                ``"laplacian:16"``, to make features from the edges.
            split: attribute of the nodes that says train, val or test; None for a seeded split.
            weight: attribute of the edges that is their weight; None if every edge counts 1.
            edge_features: attributes of the edges, each a number, that are their features.
            edge_type: attribute of the edges that is their type: a whole number from 0 on, or text, whose
                different values are numbered in alphabetical order. None if they have no types.
            name: name of the graph in printed lines; by default its own.
            choices: fields of `Choices`.

        Raises:
            DataError, ConfigError: as `from_edge_index`; or a node lacks an attribute that another has.
        """
        keys = EdgeKeys(
            weight, (edge_features,) if isinstance(edge_features, str) else tuple(edge_features), edge_type
        )
        raw = of_networkx(graph, label, features, split, keys)
        if raw.features is None:
            choices["features"] = features
        return cls.from_raw(raw, name or raw.name or "graph", Choices.given(choices))

    @classmethod
    def from_raw(
        cls,
        raw: RawGraph,
        name: str,
        choices: Choices,
        num_classes: int | None = None,
        assumed_width: int | None = None,
        step: Step = silently,
    ) -> Graph:
        """Check what the files of a data set hold, or the arguments of another constructor.

        Args:
            raw: the content.
            name: of the graph.
            choices: what to do with it.
            num_classes: number of classes; by default the largest label plus one.
            assumed_width: columns of features and number of classes where the content has none, for work that
                needs their sizes alone. None: it must have them.
            step: shows what is being done.

        Raises:
            DataError: as `from_edge_index`.
        """
        num_nodes = num_nodes_of(raw, name)
        inputs = inputs_from(raw, name, choices, num_nodes, assumed_width, step)
        wanted = (choices, num_nodes, num_classes, assumed_width)
        labels, outputs, masks, hidden, label_notes = labels_from(raw, name, *wanted)
        return cls(
            name,
            inputs.adjacency.matrix,
            inputs.features,
            labels.values,
            outputs,
            *masks,
            notes=(*inputs.notes, *label_notes),
            weighted=inputs.adjacency.weighted,
            ids=raw.ids,
            class_names=raw.class_names or labels.names,
            regression=labels.kind == "regression",
            scaling=inputs.scaling,
            hidden_test=hidden,
            edge_attr=inputs.adjacency.data.attr,
            edge_type=inputs.adjacency.data.type,
            edge_type_names=raw.edge_type_names,
        )

    @classmethod
    def unlabelled(
        cls,
        raw: RawGraph,
        name: str,
        choices: Choices,
        known: FeatureScaling | None = None,
        step: Step = silently,
    ) -> Graph:
        """Check the edges and the features of a data set, whose labels and splits are not looked at.

        Args:
            raw: the content.
            name: of the graph.
            choices: what to do with it.
            known: numbers by which made features are to be scaled; None for those of this graph.
            step: shows what is being done.

        Raises:
            DataError: as `from_edge_index`.
        """
        num_nodes = num_nodes_of(raw, name)
        inputs = inputs_from(raw, name, choices, num_nodes, None, step, known)
        nobody = torch.zeros(1, dtype=torch.bool).expand(num_nodes)
        return cls(
            name,
            inputs.adjacency.matrix,
            inputs.features,
            torch.full((1,), UNLABELLED).expand(num_nodes),
            0,
            nobody,
            nobody,
            nobody,
            notes=inputs.notes,
            weighted=inputs.adjacency.weighted,
            ids=raw.ids,
            scaling=inputs.scaling,
            edge_attr=inputs.adjacency.data.attr,
            edge_type=inputs.adjacency.data.type,
            edge_type_names=raw.edge_type_names,
        )

    def with_edge_types(self, names: tuple[str, ...]) -> Graph:
        """The same graph with types of edges numbered by their names, as a model has learnt them.

        Args:
            names: the types' names in the order of their numbers. A graph whose types have no names keeps
                its numbers.

        Raises:
            DataError: a type is not among them.
        """
        if self.edge_type is None or self.edge_type_names == names:
            return self
        types = self.edge_type
        if not self.edge_type_names and self.edge_data.num_types > len(names):
            raise DataError(
                f"edge_type: {self.edge_data.num_types - 1} is no type that is known; there are "
                f"{len(names):,}, from 0 on"
            )
        if self.edge_type_names:
            types = renumbered(types, self.edge_type_names, names)
        return replace(self, edge_type=types, edge_type_names=names)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write a graph folder, which `gnnpipe.load` and ``--graph`` take.

        Args:
            folder: made whole or not at all.
            overwrite: whether to replace a graph folder that stands there.

        Raises:
            ConfigError: something else stands there.
            OSError: it can't be written.
        """
        save_graph(self, Path(folder), overwrite=overwrite)

    def with_made_features(
        self, spec: str, step: Step = silently, known: FeatureScaling | None = None
    ) -> Graph:
        """The same graph with features that are made from its edges, and a note that says so.

        Args:
            spec: degree, or laplacian:16; see `gnnpipe.graph.made_features`.
            step: shows what is being done.
            known: numbers to scale degrees by, as of the graph that a model has learnt; None for this one's.

        Raises:
            ConfigError, DataError: as `made_features`.
        """
        made = features_made(self.adjacency, spec, self.num_features, step, known)
        return replace(self, features=made.rows, notes=(*self.notes, made.note), scaling=made.scaling)

    def with_normalized_features(self, known: FeatureScaling | None = None) -> Graph:
        """The same graph with features as torch_geometric's NormalizeFeatures makes them.

        Args:
            known: has the smallest entry of the features that a model has learnt; None for this graph's.

        Raises:
            DataError: as `normalized_features`.
        """
        least = known.least if known else None
        least = least_entry(self.features) if least is None else least
        scaled = normalized_features(self.features, least)
        return replace(self, features=scaled, scaling=replace(self.scaling, least=least))

    def with_standardized_features(self, known: FeatureScaling | None = None) -> Graph:
        """The same graph with columns of features that have mean 0 and deviation 1 over all nodes.

        Args:
            known: has the mean and deviation that a model has learnt; None for those of this graph.

        Raises:
            DataError: as `standardized_features`.
        """
        columns = known.columns if known else feature_columns(self.features)
        scaled = standardized_features(self.features, columns)
        return replace(self, features=scaled, scaling=replace(self.scaling, columns=columns))
