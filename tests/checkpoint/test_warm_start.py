"""Weights of another run: which a model takes, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import gnnpipe
from gnnpipe.checkpoint.warm_start import grouped, load, warm_start, weight_shapes
from gnnpipe.config.checks import check_config
from gnnpipe.config.resume import check_resumed
from gnnpipe.config.run import GcniiConfig, RunConfig
from gnnpipe.errors import ConfigError
from gnnpipe.nn.models import ModelSpec
from tests.graphs import random_graph
from tests.harness import Case, make_stage


def spec(model: Any = "gcnii", layers: int = 4, hidden: int = 8, classes: int = 3) -> ModelSpec:
    return ModelSpec(model, layers, hidden, 5, classes, False, 0, GcniiConfig())


def stored(path: Path, of: ModelSpec, **changes: torch.Tensor) -> Path:
    """A file of weights, each of which holds one number of its own."""
    shapes = weight_shapes(of)
    weights = {name: torch.full(shape, 1.0 + index) for index, (name, shape) in enumerate(shapes.items())}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**weights, **changes}, path)
    return path


def test_names_and_shapes_are_those_of_a_run_s_file() -> None:
    assert weight_shapes(spec("gcn", layers=2)) == {
        "layers.0.weight": (5, 8), "layers.0.bias": (8,), "layers.1.weight": (8, 3), "layers.1.bias": (3,),
    }  # fmt: skip


def test_all_is_taken_from_the_same_model(tmp_path: Path) -> None:
    path = stored(tmp_path / "run" / "model.safetensors", spec())
    found = warm_start(str(tmp_path / "run"), spec(), tmp_path / "copy")
    assert found.notes == (
        f"warm start from '{tmp_path / 'run'}'",
        "taken, 8 of 8 weights: input.weight, input.bias, layers.0-3.weight, output.weight, output.bias",
    )
    copied, original = load_file(found.path), load_file(path)
    assert copied.keys() == original.keys()
    assert all(torch.equal(copied[name], original[name]) for name in copied)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = stored(tmp_path / "w", spec(layers=3, classes=7), odd=torch.zeros(2))
    found = warm_start(str(path), spec(layers=5), tmp_path / "copy")
    assert found.notes[1:] == (
        "taken, 5 of 9 weights: input.weight, input.bias, layers.0-2.weight",
        "not taken: output.weight, output.bias (output.weight is 8 x 7 there, and 8 x 3 here)",
        "not there: layers.3-4.weight",
        "not of this model: odd",
    )
    assert set(load_file(found.path)) == {
        "input.weight",
        "input.bias",
        *(f"layers.{i}.weight" for i in range(3)),
    }


def test_numbers_of_another_type_are_not_taken(tmp_path: Path) -> None:
    path = stored(tmp_path / "w", spec(), **{"input.bias": torch.zeros(8, dtype=torch.float16)})
    found = warm_start(str(path), spec(), tmp_path / "copy")
    assert found.notes[2] == "not taken: input.bias (input.bias is 8 of F16 there, and 8 here)"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"layers.0.weight": torch.zeros(9, 9)}, r"none of the 1 weights .* is 9 x 9 there, and 5 x 8 here"),
        (
            {"a": torch.zeros(1)},
            r"none of the 1 weights .*not there: layers\.0-1\.bias, .*not of this model: a",
        ),
        ({"layers.1.bias": torch.tensor([0.0, 1.0, float("nan")])}, r"layers\.1\.bias in .* not finite"),
    ],
)
def test_weights_of_no_use_are_refused(weights: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "w")
    with pytest.raises(ConfigError, match=f"^warm-start: .*{message}"):
        warm_start(str(tmp_path / "w"), spec("gcn", layers=2), tmp_path / "copy")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no weights at all")
    (tmp_path / "run").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "target")
    (tmp_path / "run" / "model.safetensors").symlink_to(tmp_path / "target")
    for name, why in (("text", "header"), ("none", "No such file"), ("run", "links are not followed")):
        with pytest.raises(ConfigError, match=f"^warm-start: .*can't be read .*{why}"):
            warm_start(str(tmp_path / name), spec(), tmp_path / "copy")


@pytest.mark.parametrize(("stages", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_each_stage_takes_its_own(stages: int, rank: int, tmp_path: Path) -> None:
    case = Case(random_graph(20, 3, num_features=5, num_classes=3), layers=4)
    path = stored(tmp_path / "w", case.spec)
    stage = make_stage(case, stages, rank)
    load(stage, path)
    expected = load_file(path)
    names = {f"{layer.spec.name}.{name}": weight for layer in stage.layers
             for name, weight in layer.module.named_parameters()}  # fmt: skip
    assert names
    for name, weight in names.items():
        assert torch.equal(weight, expected[name]), name


@given(st.sets(st.integers(0, 30), min_size=1))
def test_spans_stand_for_the_layers_that_they_name(numbers: set[int]) -> None:
    text = grouped(f"layers.{number}.weight" for number in numbers)
    found: set[int] = set()
    for part in text.split(", "):
        if part.startswith("and "):
            assert text.count(", ") == 8
            return
        first, _, last = part.removeprefix("layers.").removesuffix(".weight").partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == numbers


def test_a_run_that_goes_on_keeps_its_own_weights(tmp_path: Path) -> None:
    before = check_config(RunConfig(warm_start="some"))
    assert before.warm_start == str(Path.cwd() / "some")
    after = check_config(RunConfig(warm_start="other", resume="x"))
    with pytest.raises(ConfigError, match=r"warm-start: .* can't change on the way"):
        check_resumed(after, before)


@pytest.mark.slow
def test_a_run_begins_where_the_other_was_best(tmp_path: Path) -> None:
    """Also over another plan, and on another graph with other classes."""
    small = {"num_nodes": 300, "num_features": 8, "num_classes": 4, "blocks_per_class": 2}
    common: dict[str, Any] = {"model": "gcnii", "layers": 4, "hidden": 8, "dropout": 0.0, "threads": 1,
                              "optimizer": {"averaging": 0.0}}  # fmt: skip
    first = gnnpipe.train(**common, epochs=30, synthetic=small, out=tmp_path / "first", eval_every=1)
    plan: dict[str, Any] = {"stages": 2, "parts": 2, "chunks": 1}
    for where in ({}, plan):
        # with a rate this small the first epoch changes nothing that counts
        again = gnnpipe.train(**common, **where, epochs=1, lr=1e-12, synthetic=small, warm_start=first,
                              out=tmp_path / f"again{len(where)}", eval_every=1)  # fmt: skip
        for key in ("best_val", "test_at_best_val"):
            assert again.summary[key] == pytest.approx(first.summary[key], abs=1e-6)
        assert again.config.warm_start == str(first.folder.absolute())
    graph = small | {"num_classes": 6, "seed": 3}
    other = gnnpipe.train(**common, **plan, epochs=1, lr=1e-12, synthetic=graph,
                          warm_start=first.folder, out=tmp_path / "other")  # fmt: skip
    before, after = (load_file(run.folder / "model.safetensors") for run in (first, other))
    torch.testing.assert_close(after["layers.2.weight"], before["layers.2.weight"])
    assert after["output.weight"].shape == (8, 6)
