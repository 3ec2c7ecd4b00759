"""Plans of models of one's own, and what is refused before they are trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gnnpipe.config.checks import check_config
from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import RunConfig, StalenessConfig
from gnnpipe.errors import ConfigError, PlanError
from gnnpipe.graph.prepare.lazy import as_lazy
from gnnpipe.planner.hardware import load_hardware
from gnnpipe.planner.question import question_of
from gnnpipe.planner.search import search
from gnnpipe.records.folder import config_as_yaml
from gnnpipe.report.plans import train_command
from gnnpipe.run.job import outline_of, plan_for
from tests.graphs import random_graph
from tests.nn.own.made import DEEP, written

NORMED = DEEP.replace("nn.LayerNorm(hidden)", "nn.BatchNorm1d(hidden)")
DATA = random_graph(40, 160)


def config(place: str, **changes: object) -> Resolved:
    return check_config(RunConfig(model=place, **changes))  # type: ignore[arg-type]


def test_layers_are_counted(tmp_path: Path) -> None:
    found = plan_for(config(written(tmp_path), stages=2), DATA)
    assert found.layer_ranges in (((0, 1), (1, 3)), ((0, 2), (2, 3)))
    with pytest.raises(PlanError, match="4 stages can't share 3 layers"):
        plan_for(config(written(tmp_path), stages=4), DATA)


def test_a_changed_file_is_planned_anew(tmp_path: Path) -> None:
    """Plans may come from a cache, which knows them by the content of the file."""
    asked = config(written(tmp_path))
    before = outline_of(asked, as_lazy(DATA))
    after = outline_of(config(written(tmp_path, DEEP.replace("depth=3", "depth=5"))), as_lazy(DATA))
    assert (before.spec.layers, after.spec.layers) == (3, 5)
    assert before.spec.checksum != after.spec.checksum


def test_batch_norm_and_exact_chunks(tmp_path: Path) -> None:
    exact = StalenessConfig(preset="exact")
    place = written(tmp_path, NORMED)
    assert plan_for(config(place, stages=2, staleness=exact), DATA).num_chunks == 1
    with pytest.raises(ConfigError, match="norm: batch reads all rows of the graph at once"):
        plan_for(config(place, stages=2, chunks=4, staleness=exact), DATA)


def test_the_command_of_a_plan_trains_the_same_layers(tmp_path: Path) -> None:
    asked = PlanConfig(model=written(tmp_path), hidden=12, model_options=("depth=4",), devices=2)
    question = question_of(asked, DATA)
    assert (question.spec.layers, question.spec.hidden) == (4, 12)
    best = search(asked, question, load_hardware("a5000x8"))[0]
    command = train_command(best, asked)
    assert "--model-options '[hidden=12,depth=4]'" in command
    assert "--layers" not in command


def test_settings_of_built_in_models_are_refused(tmp_path: Path) -> None:
    for key, value in (("norm", "layer"), ("residual", "linear"), ("jk", "max"), ("heads", 2)):
        with pytest.raises(ConfigError, match=f"{key}: {value} says nothing about .*mine.py:layers"):
            config(written(tmp_path), **{key: value})


def test_options_are_written_only_where_there_are_some(tmp_path: Path) -> None:
    assert "model_options" not in config_as_yaml(check_config(RunConfig()))
    asked = replace(config(written(tmp_path)), model_options=("hidden=4",))
    assert config_as_yaml(asked)["model_options"] == ["hidden=4"]
