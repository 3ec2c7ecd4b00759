"""The pieces of a `Graph` from the content of a data set's files, or from the arrays of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnpipe.config.features import DEGREE, MADE
from gnnpipe.errors import DataError, shown
from gnnpipe.graph.adjacency import Adjacency, adjacency_of
from gnnpipe.graph.choices import Choices
from gnnpipe.graph.convert import as_features, as_tensor
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.edge_data import edge_data_of
from gnnpipe.graph.labels import Labels, as_labels, check_rows, class_notes, count_outputs
from gnnpipe.graph.made_features import degree_columns, made_features
from gnnpipe.graph.scaled_features import UNSCALED, FeatureScaling
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.splits import Masks, chosen_masks, random_split
from gnnpipe.system.steps import Step

NO_NODES = "graph: it has no nodes; at least one is needed"


def num_nodes_of(raw: RawGraph, name: str) -> int:
    """Number of nodes: that of the adjacency, or as the content says, or of rows of features or labels."""
    if isinstance(raw.edge_index, Csr):
        return raw.edge_index.num_rows
    if raw.num_nodes is not None:
        found = raw.num_nodes
    elif raw.features is not None:
        found = _num_rows(raw.features, "features")
    elif raw.labels is not None:
        found = _num_rows(raw.labels, "labels")
    else:
        raise DataError(f"graph: {name} does not say how many nodes it has; give features or labels")
    if found < 1:
        raise DataError(NO_NODES)
    return found


def _num_rows(values: Any, what: str) -> int:
    shape = np.shape(values)
    return int(shape[0]) if shape else len(as_tensor(values, what))


def adjacency_from(raw: RawGraph, num_nodes: int, *, undirected: bool) -> Adjacency:
    """The adjacency of a data set, perhaps with the reverse of every edge."""
    if not isinstance(raw.edge_index, Csr):
        return adjacency_of(
            raw.edge_index,
            num_nodes,
            raw.weight,
            edge_attr=raw.edge_attr,
            edge_type=raw.edge_type,
            undirected=undirected,
        )
    data, notes = edge_data_of(raw.edge_attr, raw.edge_type, raw.edge_index.num_entries)
    ready = Adjacency(raw.edge_index, raw.weight is not None, notes, data)
    return ready.with_reverse() if undirected else ready


@dataclass(frozen=True)
class Inputs:
    """Edges and features of a data set: all that a model reads."""

    adjacency: Adjacency
    features: Tensor | Csr
    notes: tuple[str, ...]
    """Lines for the user, about the content and about these."""
    scaling: FeatureScaling
    """The numbers by which features that were made are scaled."""


def inputs_from(
    raw: RawGraph,
    name: str,
    choices: Choices,
    num_nodes: int,
    assumed: int | None,
    step: Step,
    known: FeatureScaling | None = None,
) -> Inputs:
    """The edges and the features of a data set.

    Args:
        raw: the content.
        name: of the graph, for messages.
        choices: what to do with it.
        num_nodes: number of nodes.
        assumed: columns of features where there are none; None: they must be there.
        step: shows what is being done.
        known: as for `features_made`.

    Raises:
        DataError: they can't be used, or there are no features.
    """
    adjacency = adjacency_from(raw, num_nodes, undirected=choices.undirected)
    notes = (*raw.notes, *adjacency.notes)
    if choices.features is None:
        way_out = MADE if known is None else "give each node those that the run was trained on"
        features, feature_notes = _features_from(raw, name, num_nodes, assumed, way_out)
        return Inputs(adjacency, features, (*notes, *feature_notes), UNSCALED)
    num_given = 0 if raw.features is None else raw.features.shape[-1]
    made = features_made(adjacency.matrix, choices.features, num_given, step, known)
    return Inputs(adjacency, made.rows, (*notes, made.note), made.scaling)


def _features_from(
    raw: RawGraph, name: str, num_nodes: int, assumed: int | None, way_out: str
) -> tuple[Tensor | Csr, tuple[str, ...]]:
    """The features of a data set, or those that are assumed; and notes about them."""
    if raw.features is not None:
        return as_features(raw.features)
    if assumed is None:
        raise DataError(f"features: {name} has none; {way_out}")
    note = f"features: {name} has none; as many columns as --hidden are planned for ({assumed})"
    return torch.zeros(1, assumed).expand(num_nodes, assumed), (note,)


@dataclass(frozen=True)
class MadeFeatures:
    """Features that are made from the edges."""

    rows: Tensor
    """float32 ``[num_nodes, num_features]``."""
    note: str
    """A line for the user."""
    scaling: FeatureScaling
    """The numbers by which degrees are scaled."""


def features_made(
    matrix: Csr, spec: str, num_given: int, step: Step, known: FeatureScaling | None = None
) -> MadeFeatures:
    """Make features from the edges.

    Args:
        matrix: the adjacency.
        spec: degree, or laplacian:16.
        num_given: columns of the features that they take the place of.
        step: shows what is being done.
        known: numbers that degrees are to be scaled by; None for those of this graph.
    """
    with step(f"making features of {matrix.num_rows:,} nodes ({spec})"):
        scaling = UNSCALED
        if spec == DEGREE:
            scaling = FeatureScaling(known.degrees if known else degree_columns(matrix))
        made = made_features(matrix, spec, degrees=scaling.degrees)
    note = f"features: {made.shape[1]:,} made from the edges ({spec})"
    note = f"{note}, in place of the {num_given:,} given" if num_given else note
    return MadeFeatures(made, note, scaling)


def labels_from(
    raw: RawGraph, name: str, choices: Choices, num_nodes: int, num_classes: int | None, assumed: int | None
) -> tuple[Labels, int, Masks, Tensor | None, list[str]]:
    """Labels, their number of classes or values, the masks of labelled nodes, and the test nodes whose labels
    are hidden; and notes about them."""
    if raw.labels is None:
        return _assumed_labels(name, num_nodes, assumed)
    labels = as_labels(raw.labels, raw.task or "auto" if choices.task == "auto" else choices.task)
    check_rows(labels.values, num_nodes)
    masks, hidden, mask_notes = chosen_masks(raw.masks, labels, choices, name)
    named = len(raw.class_names or labels.names) if labels.kind == "classes" else 0
    _check_num_classes(num_classes)
    outputs = num_classes or raw.num_classes or named or count_outputs(labels)
    return labels, outputs, masks, hidden, [*labels.notes, *class_notes(labels, outputs), *mask_notes]


def _assumed_labels(
    name: str, num_nodes: int, assumed: int | None
) -> tuple[Labels, int, Masks, Tensor | None, list[str]]:
    """Labels for planning alone, all of the first class; raises DataError where labels are needed."""
    if assumed is None:
        raise DataError(
            f"labels: {name} has none; to train, give those of some nodes, and NaN for the others"
        )
    note = f"labels: {name} has none; as many classes as --hidden are planned for ({assumed})"
    labels = Labels(torch.zeros(1, dtype=torch.int64).expand(num_nodes), "classes")
    return labels, assumed, random_split(num_nodes, 0), None, [note]


def _check_num_classes(given: Any) -> None:
    if given is not None and not (isinstance(given, int) and given > 0):
        raise DataError(
            f"num_classes: '{shown(given)}' can't be used; expected a whole number above 0, or None"
        )
