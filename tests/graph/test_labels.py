"""Labels are classes, several labels, or values to be predicted; nodes without any are in no split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gnnpipe.config.run import LabelTask
from gnnpipe.errors import DataError
from gnnpipe.graph.choices import Choices
from gnnpipe.graph.data import Graph
from gnnpipe.graph.labels import as_labels, labelled
from gnnpipe.graph.splits import chosen_masks
from tests.graphs import one_node_each

NAN = float("nan")


@pytest.mark.parametrize(
    ("given", "task", "kind"),
    [
        ([0, 1, 2], "auto", "classes"),
        ([0.0, 1.0, NAN], "auto", "classes"),
        ([0.5, 1.0, NAN], "auto", "regression"),
        ([0.0, 1.0, NAN], "regression", "regression"),
        ([[0.0, 1.0], [1.0, 1.0]], "auto", "multilabel"),
        ([[0.0, 1.5], [1.0, 1.0]], "auto", "regression"),
        ([[0.0, 1.0], [1.0, 1.0]], "regression", "regression"),
        ([[0.0], [1.0]], "auto", "classes"),
        ([True, False, True], "regression", "regression"),
    ],
)
def test_kinds(given: Any, task: LabelTask, kind: str) -> None:
    found = as_labels(np.array(given), task)
    assert found.kind == kind
    values = np.array(given, dtype=np.float32).squeeze()
    if kind == "regression":
        np.testing.assert_array_equal(found.values.numpy(), values)
        assert labelled(found.values).tolist() == [not np.isnan(row).any() for row in values]


def test_the_guess_is_said() -> None:
    notes = as_labels(torch.tensor([1.0, 4.206, 2.43])).notes
    assert notes == (
        "labels: 4.206 of node 1 is no whole number, so labels are values to be predicted (regression); "
        "--task classes refuses them",
    )
    assert as_labels(torch.tensor([1.0, 4.206]), "regression").notes == ()
    large = as_labels(np.array([2.0**25 + 1, 1.0]), "regression")
    assert large.notes == ("labels: 50.0% of the entries are rounded from float64 to float32",)


def test_minus_one_is_a_value_among_values() -> None:
    assert labelled(as_labels(torch.tensor([-1.0, 0.5, NAN])).values).tolist() == [True, True, False]
    assert labelled(as_labels(torch.tensor([-1, 1, 0])).values).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("given", "task", "message"),
    [
        ([1.0, np.inf, 0.5], "auto", "labels: the value of node 1, column 0 is infinite as float32"),
        ([1.0, 1e39, 0.5], "auto", "labels: the value of node 1, column 0 is infinite as float32"),
        ([[0.5, NAN], [1, 2]], "auto", "labels: 1 nodes have some of their 2 values and not others, first n"),
        ([0.5, 1.0], "classes", "labels: 0.5 of node 0 is no class number; .* with --task regression"),
        ([[2.0, 1.0]], "auto", "labels: 2.0 lies outside 0 to 1 .* give --task regression"),
        (["a", "b"], "regression", "labels: it holds values of type <U1"),
    ],
)
def test_mistakes(given: Any, task: LabelTask, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_labels(np.array(given), task)


def graph(labels: Any, masks: Any = None, **choices: Any) -> Graph:
    index = torch.stack([torch.arange(len(labels) - 1), torch.arange(1, len(labels))])
    return Graph.from_edge_index(index, torch.ones(len(labels), 2), labels, masks, **choices)


@pytest.mark.parametrize("values", [[0, 1, 2], [0.25, 1.5, 9]])
def test_a_seeded_split_is_made_of_labelled_nodes(values: list[float]) -> None:
    labels = torch.tensor(values).repeat(20)[:50].double()
    labels[::7] = NAN
    one, two, other = (graph(labels, split=split) for split in (3, 3, 4))
    known = ~labels.isnan()
    assert [int(mask.sum()) for mask in one.masks.values()] == [25, 8, 9]  # 60, 20 and 20 % of 42
    assert torch.equal(sum(one.masks.values()) > 0, known)  # type: ignore[arg-type]
    assert torch.equal(one.train_mask, two.train_mask)
    assert not torch.equal(one.train_mask, other.train_mask)
    assert one.task == ("multiclass" if values[0] == 0 else "regression")


def test_a_split_by_class_is_random_where_there_are_no_classes() -> None:
    values = torch.rand(50)
    by_class = graph(values, make_split="per-class")
    assert "make-split: per-class needs one class a node, so the split is random" in by_class.notes
    assert torch.equal(by_class.train_mask, graph(values).train_mask)


def test_values_of_several_columns() -> None:
    values = torch.rand(12, 3)
    values[4] = NAN
    data = graph(values)
    assert (data.task, data.num_classes, data.num_edges) == ("regression", 3, 11)
    assert not any(mask[4] for mask in data.masks.values())
    assert graph(torch.rand(12, 1)).labels.shape == (12,)


def test_choices_are_checked() -> None:
    for choices, message in (
        ({"task": "regresion"}, "task: 'regresion' is not known; did you mean 'regression'"),
        ({"undirect": True}, "undirect is not known; did you mean 'undirected'"),
        ({"make_split": "perclass"}, "make-split: 'perclass' is not known; did you mean 'per-class'"),
        ({"split": -1}, "split: -1 is out of range"),
    ):
        with pytest.raises(ValueError, match=message):
            graph(torch.arange(12) % 3, **choices)


def test_hidden_test_labels() -> None:
    labels = torch.tensor([0, 1, -1, -1])
    train, val, _ = one_node_each(4)
    hidden = torch.tensor([False, False, True, True])
    data = graph(labels, (train, val, hidden))
    assert (
        "test_mask: none of its 2 nodes has a label, so there is no test score (hidden labels)" in data.notes
    )
    assert not data.test_mask.any()
    assert data.nodes_of("test").tolist() == hidden.tolist()
    assert data.nodes_of("val").tolist() == val.tolist()
    empty = graph(labels, (train, val, torch.zeros(4, dtype=torch.bool)))
    assert "test_mask: it is empty, so there is no test score" in empty.notes
    for masks, message in (
        ((train, torch.zeros(4, dtype=torch.bool), hidden), "val_mask: it is empty; mark at least one node"),
        ((hidden, val, train), "train_mask: none of its 2 nodes has a label; mark nodes that have one"),
    ):
        with pytest.raises(DataError, match=message):
            graph(labels, masks)


def test_shipped_splits_are_numbered() -> None:
    labels = as_labels(torch.tensor([0, 1, 0, 1]))
    columns = tuple(torch.stack([mask, mask.roll(1)], dim=1) for mask in one_node_each(4))
    (train, _, _), hidden, _ = chosen_masks(columns, labels, Choices(split=1), "x")  # type: ignore[arg-type]
    assert (train.tolist(), hidden) == ([False, True, False, False], None)
    with pytest.raises(DataError, match=r"split: 2 does not exist; x ships 2 \(use 0 to 1\)"):
        chosen_masks(columns, labels, Choices(split=2), "x")  # type: ignore[arg-type]


def test_text_names_classes() -> None:
    texts = np.array(["b", None, "a", "c", "b", NAN] * 2, dtype=object)
    data = graph(texts)
    assert (data.class_names, data.num_classes) == (("a", "b", "c"), 3)
    assert data.labels.tolist() == [1, -1, 0, 2, 1, -1] * 2
    assert graph(list("ababab")).class_names == ("a", "b")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            (torch.ones(4), torch.ones(4)),
            "masks: 2 can't be used; give three: for training, validation and t",
        ),
        (3, "masks: an object of type int can't be used; give three"),
        ((None, *one_node_each(4)[1:]), "train_mask: it holds values of type NoneType"),
    ],
)
def test_masks_that_are_none(masks: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        graph(torch.tensor([0, 1, 0, 1]), masks)
    train, val, _ = one_node_each(4)
    assert not graph(torch.tensor([0, 1, 0, 1]), (train, val, None)).test_mask.any()


def test_lists_are_arrays() -> None:
    data = Graph.from_edge_index([[0, 1], [1, 2]], [[1, 2], [3, 4], [5, 6]], [0, 1, 1], one_node_each(3))
    assert (data.num_edges, data.num_features, data.labels.tolist()) == (2, 2, [0, 1, 1])
    for number in ("3", 0, 2.5):
        with pytest.raises(
            DataError, match=f"num_classes: '{number}' can't be used; expected a whole number"
        ):
            graph(torch.arange(12) % 3, num_classes=number)


def test_names_of_classes_are_counted() -> None:
    data = graph(torch.arange(12) % 3)
    with pytest.raises(DataError, match="class_names: 2 names for 3 classes"):
        Graph(
            "x", data.adjacency, data.features, data.labels, 3, *data.masks.values(), class_names=("a", "b")
        )
