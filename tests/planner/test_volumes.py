"""What `gnnpipe volume` says: published facts, and the very numbers that runs count."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnnpipe.config.checks import check_config, check_volume_config
from gnnpipe.config.commands import VolumeConfig
from gnnpipe.config.run import RunConfig, SyntheticConfig
from gnnpipe.engine.tables import TableSettings
from gnnpipe.errors import ConfigError, PlanError
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.nn.models import spec_for
from gnnpipe.planner.predictions import predict
from gnnpipe.planner.volumes import PlanVolume, as_json, volumes
from gnnpipe.run.job import plan_for, prepare_graph
from tests.graphs import private_root

SMALL = SyntheticConfig(num_nodes=600, avg_degree=8)


def found(config: VolumeConfig) -> dict[tuple[int, int], PlanVolume]:
    return {(plan.num_stages, plan.num_parts): plan for plan in volumes(config).plans}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "folder", "alpha"),
    [
        ("Physics", "Coauthor", 0.99),
        ("Flickr", "OgbnArxivSaint", 0.70),
        ("squirrel", "WikipediaNetwork", 2.2),
    ],
)
def test_alpha_of_real_graphs(dataset: str, folder: str, alpha: float, tmp_path: Path) -> None:
    """Published for METIS into 8 parts of the undirected graphs. ogbn-arxiv's structure comes in the layout
    that the class Flickr reads, and without features."""
    root = private_root(tmp_path, folder)
    features = root / "raw" / "feats.npy"
    if folder == "OgbnArxivSaint" and not features.exists():
        np.save(features, np.ones((169_343, 1), dtype=np.float32))
    config = VolumeConfig(dataset=dataset, root=str(root), undirected=True, devices=8)
    assert found(config)[1, 8].alpha == pytest.approx(alpha, rel=0.05)
    shutil.rmtree(root)


@pytest.mark.parametrize(("num_nodes", "gib"), [(89_250, 0.47), (232_965, 1.22)])
def test_published_pipelines(num_nodes: int, gib: float) -> None:
    """GCN, 32 layers, hidden 100, 8 stages (gnnpipe_a5000.csv): Flickr and Reddit, from their sizes alone."""
    config = VolumeConfig(num_nodes=num_nodes, model="gcn", layers=32, hidden=100, devices=8)
    pipeline = found(config)[8, 1].volume
    assert pipeline is not None
    assert pipeline.communication_layer == 2 * 7 * num_nodes * 100 * 4
    assert round(pipeline.total / 2**30, 2) == gib
    assert found(config)[1, 8].volume is None


@pytest.mark.parametrize("model", ["gcn", "gcnii"])
def test_same_as_what_a_run_predicts(model: Any) -> None:
    """And so, by test_parts, as what it counts."""
    for (stages, parts), plan in found(
        VolumeConfig(synthetic=SMALL, model=model, devices=4, layers=8)
    ).items():
        config = RunConfig(synthetic=SMALL, model=model, stages=stages, parts=parts, layers=8)
        config = check_config(config)
        data = load_dataset(config)
        run_plan, spec = plan_for(config, data), spec_for(config, data)
        graph = prepare_graph(data, run_plan, spec)
        predicted = predict(run_plan, spec, graph, TableSettings.of(config.staleness, run_plan))
        assert predicted.volume == plan.volume
        assert plan.volume is not None
        if parts == 4:
            assert predicted.rival_bytes == plan.volume.total


def test_ratio_is_to_graph_parallelism() -> None:
    result = as_json(volumes(VolumeConfig(synthetic=SMALL, devices=4, layers=8)))
    graph, hybrid, pipeline = result["plans"]
    assert graph["ratio"] == 1
    assert pipeline["ratio"] == graph["total"] / pipeline["total"]
    assert graph["total"] > hybrid["total"] > pipeline["total"]


def test_alpha_for_a_graph_that_is_not_at_hand() -> None:
    config = VolumeConfig(num_nodes=1000, alpha=0.5, layers=4, hidden=16, devices=2, model="resgcn")
    graph = found(config)[1, 2].volume
    assert graph is not None
    assert graph.communication_graph == 2 * 4 * 500 * 16 * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 0}, "devices: 0 is out of range; use 1 to "),
        ({"num_nodes": 0}, "num-nodes: 0 is out of range"),
        ({"alpha": 2.0}, "alpha: 2.0 says nothing about --dataset synthetic, which has its own"),
        ({"num_nodes": 5, "dataset": "Cora"}, "num-nodes: 5 stands for a graph that is not at hand, but"),
        ({"model": "gcnni"}, "model: 'gcnni' is not known; .*did you mean"),
        ({"part_balance": "edges"}, "part-balance: 'edges' is not known; "),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_volume_config(replace(VolumeConfig(), **changes))


def test_no_plan_fits() -> None:
    config = VolumeConfig(num_nodes=3, layers=2, devices=7)
    with pytest.raises(PlanError, match="devices: 7 devices can't be shared out among 2 layers and 3 nodes"):
        volumes(config)
