"""Exported models with options compute what the engine does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from gnnpipe.config.run import Model
from gnnpipe.errors import ConfigError
from tests.export.runs import drawn, given, made_run, predicted

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
MODELS: tuple[Model, ...] = get_args(Model)
OPTIONS: dict[str, dict[str, Any]] = {
    "own": {},
    "batch, linear": {"norm": "batch", "residual": "linear"},
    "layer, identity, sum": {"norm": "layer", "residual": "identity", "jk": "sum"},
    "none, max": {"norm": "none", "residual": "none", "jk": "max"},
    "batch, linear, max": {"norm": "batch", "residual": "linear", "jk": "max"},
}


# All of them are the slow ones: each compiles classes of torch_geometric.
CASES = [
    pytest.param(model, options, marks=[] if options == "batch, linear, max" else pytest.mark.slow)
    for model in MODELS
    for options in OPTIONS
]


@pytest.mark.parametrize(("model", "options"), CASES)
def test_outputs(model: Model, options: str, tmp_path: Path) -> None:
    """On a graph with parallel edges, loops and nodes without edges."""
    data = drawn()
    made = made_run(tmp_path / "run", data, model=model, layers=3, **OPTIONS[options])
    assert made.logits.std() > 0.05
    module = made.run.to_pyg()
    torch.testing.assert_close(predicted(module, given(data)), made.logits, **CLOSE)


@pytest.mark.parametrize("model", ["gin", "gen", "mesh"])
def test_weights_that_the_code_does_not_read_are_refused(model: Model, tmp_path: Path) -> None:
    made = made_run(tmp_path / "run", drawn(weighted=True), model=model)
    with pytest.raises(ConfigError, match=r"was trained with weights of edges.*predict with gnnpipe"):
        made.run.to_pyg()
    module = made_run(tmp_path / "other", drawn(), model=model).run.to_pyg()
    data = drawn(weighted=True)
    with pytest.raises(ValueError, match="it was trained without weights of edges"):
        module(*given(data))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["sage-max", "gat", "gatv2", "gcn", "gcnii", "sage", "resgcn"])
def test_weights_of_edges(model: Model, tmp_path: Path) -> None:
    data = drawn(weighted=True)
    made = made_run(tmp_path / "run", data, model=model, layers=3, norm="layer", residual="linear")
    found = predicted(made.run.to_pyg(), given(data))
    torch.testing.assert_close(found, made.logits, **CLOSE)
