"""Hosts that prepare a graph each must come to the same plan and the same cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig, SyntheticConfig
from gnnpipe.errors import PlanError
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.run.job import prepare_job
from gnnpipe.run.torchrun import _check_alike, _order_of


def test_hosts_that_differ_are_told(tmp_path: Path) -> None:
    config = check_config(RunConfig(synthetic=SyntheticConfig(num_nodes=300), layers=4, stages=2, hidden=8))
    job, _, _ = prepare_job(config, tmp_path, tmp_path / "out")
    order = _order_of(job)
    _check_alike([(job, order), (job, order)])
    with pytest.raises(PlanError, match="the hosts came to different plans; install the same versions"):
        _check_alike([(job, order), (replace(job, plan=replace(job.plan, num_chunks=3)), order)])
    graph = PreparedGraph.load(job.graph)
    other = replace(job, graph=tmp_path / "other")
    replace(graph, node_id=torch.flip(graph.node_id, [0])).save(other.graph)
    with pytest.raises(PlanError, match=r"hosts cut the graph in different ways; .* with kaminpar on all"):
        _check_alike([(job, order), (other, _order_of(other))])
