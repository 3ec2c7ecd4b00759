"""Evaluation on one stage; several stages are compared with it bit for bit elsewhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gnnpipe.comm.groups import Links
from gnnpipe.comm.stage_links import Messages
from gnnpipe.nn.split_metrics import Measure
from gnnpipe.run.evaluation import evaluate
from tests.graphs import random_graph
from tests.harness import CPU, Case, make_stage
from tests.reference import exact_epochs


def alone(item: Any) -> list[Any]:
    """What gathering is with one rank."""
    return [item]


def test_accuracy_of_exact_inference() -> None:
    case = Case(random_graph(60, 200), "resgcn", chunks=4, epochs=0)
    stage = make_stage(case)
    found = evaluate(stage, Messages(stage.place, CPU, Links()), Measure("accuracy", "multiclass", 3), alone)
    logits = exact_epochs(case).logits
    assert logits is not None
    for name, mask in case.data.masks.items():
        hits = (logits.argmax(1) == case.data.labels)[mask]
        assert getattr(found.scores, name) == pytest.approx(float(hits.float().mean()))


def test_a_logit_that_is_not_finite_is_not_scored() -> None:
    case = Case(random_graph(20, 40), "gcn", layers=2)
    stage = make_stage(case)
    with torch.no_grad():
        next(stage.modules.parameters()).fill_(math.nan)
    found = evaluate(stage, Messages(stage.place, CPU, Links()), Measure("accuracy", "multiclass", 3), alone)
    assert all(math.isnan(value) for value in vars(found.scores).values())
