"""Exported models of one's own give what the run predicts, on other graphs too, and can be trained on."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import gnnpipe
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.export.own import load_folder
from gnnpipe.graph.prepare.lazy import as_lazy
from gnnpipe.graph.sources.datasets import as_graph
from gnnpipe.nn.models import build_stack
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import Best
from gnnpipe.run.job import about_model, describe_plan, prepare_job
from tests.nn.own.made import DEEP, written

NORMED = DEEP.replace("nn.LayerNorm(hidden)", "nn.BatchNorm1d(hidden)")


def pyg_data(num_nodes: int = 60, seed: int = 0) -> Data:
    g = torch.Generator().manual_seed(seed)
    edges = torch.randint(num_nodes, (2, 4 * num_nodes), generator=g)
    x = torch.randn(num_nodes, 5, generator=g)
    return Data(x=x, edge_index=edges, y=torch.randint(3, (num_nodes,), generator=g))


def made_run(tmp_path: Path, code: str = DEEP) -> Path:
    """The folder of a run that has just begun: random weights are as good as any here."""

    config = check_config(
        RunConfig(model=written(tmp_path, code), standardize_features=True, undirected=True)
    )
    graph = as_lazy(as_graph(pyg_data(), config))
    job, facts, predictions = prepare_job(config, tmp_path, tmp_path / "run", graph=graph)
    folder = RunFolder(tmp_path / "run")
    folder.create(config, describe_plan(job, facts, predictions))
    weights = {
        f"{item.name}.{name}": weight.detach()
        for item in build_stack(job.spec)
        for name, weight in item().state_dict().items()
    }
    folder.write_model(weights, about_model(job, Best(0, 0.5, 0.5, None), facts))
    return folder.path


@pytest.mark.slow
@pytest.mark.parametrize("code", [DEEP, NORMED])
def test_outputs_are_those_of_the_run(code: str, tmp_path: Path) -> None:
    data = pyg_data()
    settings = {"undirected": True, "standardize_features": True}
    run = gnnpipe.train(
        data, model=written(tmp_path, code), epochs=3, chunks=2, threads=1, out=tmp_path / "run", **settings
    )
    run.export(tmp_path / "exported")
    modules = [run.to_pyg(), load_folder(tmp_path / "exported")]
    modules.append(runpy.run_path(str(tmp_path / "exported" / "model.py"))["load"]())
    for given in (data, pyg_data(90, seed=1)):
        expected = run.predict(given).logits
        for module in modules:
            # the whole graph at once adds up in another order than chunks do, layer by layer
            np.testing.assert_allclose(module(given).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_folder_holds_all_but_gnnpipe(tmp_path: Path) -> None:
    run = gnnpipe.open(made_run(tmp_path))
    run.export(tmp_path / "exported")
    (tmp_path / "mine.py").unlink()  # the run's own file is not needed any more
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert names == {"model.py", "layers.py", "model.safetensors", "model.json"}
    module = load_folder(tmp_path / "exported")
    out = module(pyg_data())
    assert out.shape == (60, 3)
    out.sum().backward()
    assert all(weight.grad is not None for weight in module.parameters())
    with pytest.raises(DataError, match="features: the graph has 4, and the model was trained on 5"):
        module(Data(x=torch.zeros(3, 4), edge_index=torch.zeros(2, 1, dtype=torch.long)))


def test_a_changed_copy_is_refused(tmp_path: Path) -> None:
    run = gnnpipe.open(made_run(tmp_path))
    run.export(tmp_path / "exported")
    code = tmp_path / "exported" / "layers.py"
    code.write_text(code.read_text() + "# changed\n")
    with pytest.raises(ConfigError, match="has changed"):
        load_folder(tmp_path / "exported")
