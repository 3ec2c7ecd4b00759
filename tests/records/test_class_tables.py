"""Tables by class in a run's folder, and their picture."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gnnpipe.nn.metrics import ClassCounts, Classes
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import Best, Summary
from gnnpipe.report.pictures import _draw_confusion, _save, draw_confusion
from tests.made import summary

COUNTED = Classes(
    ClassCounts((2, 1, 0), (1, 0, 0), (1, 2, 0)), ClassCounts((3, 1, 0), (2, 0, 0), (2, 1, 1)),
    ((2, 1, 0), (0, 0, 1), (0, 0, 0)),
)  # fmt: skip
NAMES = ("a, b", 'quo"ted', "$x^2")


def with_classes(classes: Classes | None) -> Summary:
    return summary(best=Best(0.5, 0.25, 4, classes))


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_every_class_of_both_splits_is_in_the_table(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_summary(with_classes(COUNTED), NAMES)
    lines = read(tmp_path / "classes.csv")
    assert lines[0] == ["split", "class", "precision", "recall", "f1", "support", "predicted", "correct"]
    assert [line[:2] for line in lines[1:]] == [[split, name] for split in ("val", "test") for name in NAMES]
    assert lines[4][2:] == ["1.0", str(2 / 3), "0.8", "3", "2", "2"]
    assert lines[6][2:] == ["0.0", "", "0.0", "0", "1", "0"]
    assert lines[3][2:] == ["", "", "", "0", "0", "0"]


def test_the_confusion_matrix_has_true_classes_in_rows(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_summary(with_classes(COUNTED))
    assert read(tmp_path / "confusion.csv") == [
        ["test nodes: class (rows), predicted (columns)", "0", "1", "2"],
        ["0", "2", "1", "0"],
        ["1", "0", "0", "1"],
        ["2", "0", "0", "0"],
    ]


def test_a_run_without_such_counts_has_no_such_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_summary(with_classes(None))
    assert {path.name for path in tmp_path.iterdir()} == {"summary.json"}
    assert draw_confusion(folder) is None
    folder.write_summary(with_classes(replace(COUNTED, confusion=())))
    assert {path.name for path in tmp_path.iterdir()} == {"summary.json", "classes.csv"}


def test_the_summary_keeps_the_matrix(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_summary(with_classes(COUNTED), NAMES)
    assert folder.summary().best.classes == COUNTED


def test_a_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="confusion matrix is not of as many classes"):
        replace(COUNTED, confusion=((1, 2), (3, 4)))


def test_long_names_are_told_apart() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    names = [f"a class whose name is so long {end}" for end in ("one", "two", "x$y")]
    _draw_confusion(axes, COUNTED, names)
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert ticks == ["a class wh… long one", "a class wh… long two", r"a class wh… long x\$y"]


def test_epochs_are_whole(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], [0, 1])
    axes.set(xlabel="epoch")
    _save(figure, tmp_path / "x.png")
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_the_picture_is_drawn_with_any_names(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = RunFolder(tmp_path)
    folder.write_summary(with_classes(COUNTED), NAMES)
    shape = {"num_stages": 1, "num_parts": 1, "num_chunks": 1, "layer_ranges": [[0, 3]]}
    content = {"plan": shape, "metric": "accuracy", "graph": {"class_names": NAMES}}
    folder._write_plan(content)
    assert draw_confusion(folder) == f"picture: {tmp_path}/confusion.png"
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 300
