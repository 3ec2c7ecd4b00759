"""Exports of runs that were trained: by every plan they agree with its predictions and its summary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.datasets import Amazon, Planetoid

import gnnpipe
from gnnpipe.config.run import Model
from tests.engine.test_exact import MODELS as NAMES
from tests.export.runs import given, predicted
from tests.graphs import private_root

pytestmark = pytest.mark.slow

SIZE = 240
PLANS = [(1, 1), (2, 1), (1, 2), (2, 2)]
SETTINGS: dict[str, Any] = {
    "layers": 4, "hidden": 16, "epochs": 12, "eval_every": 3, "threads": 1, "lr": 0.02, "device": "cpu",
}  # fmt: skip


def learnable(*, values: bool = False) -> Data:
    """A directed graph of weighted edges with self loops; the last ten nodes have none."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(SIZE) % 3
    source = torch.randint(SIZE - 10, (6 * SIZE,), generator=generator)
    # most edges join nodes of one class
    target = (source + 3 * torch.randint(20, source.shape, generator=generator)) % (SIZE - 10)
    x = torch.nn.functional.one_hot(labels, 3) + 1.2 * torch.randn(SIZE, 3, generator=generator)
    order = torch.randperm(SIZE, generator=generator)
    y = 50 + 7.0 * labels + torch.randn(SIZE, generator=generator) if values else labels
    return Data(
        x=x,
        edge_index=torch.stack([source, target]),
        edge_weight=0.1 + 3 * torch.rand(len(source), generator=generator),
        y=y,
        train_mask=order < SIZE // 2,
        val_mask=(order >= SIZE // 2) & (order < 3 * SIZE // 4),
        test_mask=order >= 3 * SIZE // 4,
    )


def answers(run: gnnpipe.Run, data: Data) -> Tensor:
    """What the exported module says, after it was compared with `Run.predict`."""
    found = predicted(run.to_pyg(), given(data))
    said = run.predict(data)
    rows = said.values if said.values is not None else said.logits
    torch.testing.assert_close(found, torch.from_numpy(np.array(rows)).float(), rtol=1e-5, atol=1e-5)
    return found


@pytest.mark.parametrize(("stages", "parts"), PLANS)
@pytest.mark.parametrize("model", NAMES)
def test_every_model_and_plan(model: Model, stages: int, parts: int, tmp_path: Path) -> None:
    """Accuracy is the summary's to the last digit, with averaged weights."""
    data = learnable()
    settings = SETTINGS | {"stages": stages, "parts": parts, "chunks": 2 * stages - 1}
    run = gnnpipe.train(data, model=model, out=tmp_path / "run", undirected=model == "gcn", **settings)
    assert run.config.optimizer.averaging
    correct = answers(run, data).argmax(dim=1) == data.y
    for name, key in (("val", "best_val"), ("test", "test_at_best_val")):
        mask = data[f"{name}_mask"]
        assert int(correct[mask].sum()) / int(mask.sum()) == run.summary[key]
    assert run.summary["best_val"] > 0.4


def test_values(tmp_path: Path) -> None:
    data = learnable(values=True)
    run = gnnpipe.train(data, model="gcnii", out=tmp_path / "run", standardize_features=True, **SETTINGS)
    found = answers(run, data)[:, 0]
    known = data.y[data.test_mask].double()
    off = (found[data.test_mask].double() - known).square().sum()
    r2 = 1 - off / (known - known.mean()).square().sum()
    assert float(r2) == pytest.approx(run.summary["test_at_best_val"], abs=1e-6)
    # half of the nodes, as a graph of its own, scaled as the one trained on
    half = Data(x=data.x[: SIZE // 2], edge_index=data.edge_index[:, :0])
    alone = predicted(run.to_pyg(), (half.x, half.edge_index))
    np.testing.assert_allclose(alone, run.predict(half).values, rtol=1e-5, atol=1e-4)


def test_an_unfinished_run(tmp_path: Path) -> None:
    """Its best weights so far."""
    data = learnable()
    run = gnnpipe.train(data, model="sage", out=tmp_path / "run", **SETTINGS)
    whole = predicted(run.to_pyg(), given(data))
    unfinished = Path(shutil.copytree(run.folder, tmp_path / "unfinished"))
    (unfinished / "summary.json").unlink()
    lines = (run.folder / "records.jsonl").read_text().splitlines(keepends=True)
    (unfinished / "records.jsonl").write_text("".join(lines[:5]))
    folder = gnnpipe.open(unfinished).export(tmp_path / "out")
    assert torch.equal(predicted(gnnpipe.open(unfinished).to_pyg(), given(data)), whole)
    about = json.loads((folder / "model.json").read_text())
    assert not about["finished"]
    assert about["trained"]["best_epoch"] == run.summary["best_epoch"]


@pytest.mark.parametrize("name", ["Cora", "Photo"])
def test_a_data_set_as_torch_geometric_loads_it(name: str, tmp_path: Path) -> None:
    """Sparse features of ours are its dense ones."""
    kind = {"Cora": Planetoid, "Photo": Amazon}[name]
    root = private_root(tmp_path, kind.__name__)
    run = gnnpipe.train(
        name, root=root, model="gcn", normalize_features=True, out=tmp_path / "run", **SETTINGS
    )
    data = kind(str(root), name)[0]
    rows = predicted(run.to_pyg(), (data.x, data.edge_index))
    torch.testing.assert_close(rows, torch.from_numpy(np.array(run.predict().logits)), rtol=1e-5, atol=1e-5)
    if name == "Cora":  # the other's split is gnnpipe's own
        correct = rows.argmax(dim=1)[data.test_mask] == data.y[data.test_mask]
        assert int(correct.sum()) / len(correct) == run.summary["test_at_best_val"]
