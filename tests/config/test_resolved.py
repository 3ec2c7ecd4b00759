"""A resolved config leaves nothing open, keeps what the user wrote, and can't hold what can't be used."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest

from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.config import checks
from gnnpipe.config.checks import check_config, check_plan_config, check_volume_config
from gnnpipe.config.commands import PlanConfig, ProfileConfig, VolumeConfig
from gnnpipe.config.every import Every
from gnnpipe.config.keywords import configured
from gnnpipe.config.presets import PRESETS
from gnnpipe.config.resolved import OptimizerSettings, Resolved, StalenessSettings
from gnnpipe.config.run import RunConfig, StalenessConfig
from gnnpipe.errors import ConfigError
from gnnpipe.records.folder import config_as_yaml

COMMANDS = (RunConfig, PlanConfig, ProfileConfig, VolumeConfig)


@pytest.mark.parametrize("given", [True, False, None])
def test_a_switch_may_be_left_to_the_run(given: bool | None) -> None:
    """As it stands in config.yaml, and as a flag."""
    assert configured(RunConfig(), {"cuda_graphs": given}).cuda_graphs is given
    text = {True: "true", False: "false", None: "null"}[given]
    parser = make_parser("train", RunConfig, "", "")
    assert parse(parser, RunConfig, ["--cuda-graphs", text]).cuda_graphs is given
    with pytest.raises(ConfigError, match="cuda_graphs: 'often' can't be used; expected true or false"):
        configured(RunConfig(), {"cuda_graphs": "often"})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_leaves_nothing_open(preset: Any) -> None:
    config = check_config(RunConfig(staleness=StalenessConfig(preset)))
    values = {**vars(config.staleness), **vars(config.optimizer)}
    assert [name for name, value in values.items() if value is None] == ["dense_weight_decay"]
    for kind in (StalenessSettings, OptimizerSettings):  # None is no value of their types either
        hints = get_type_hints(kind)
        optional = {name for name, hint in hints.items() if type(None) in get_args(hint)}
        assert optional <= {"dense_weight_decay"}


def test_what_the_user_wrote_is_written_again() -> None:
    staleness = StalenessConfig(freeze="1, 23@20", weight="fitted", lookahead="exact")
    config = check_config(RunConfig(staleness=staleness, checkpoint_every=" 10 min"))
    assert config.staleness.snapshots == ((0, 1), (20, 23))
    assert config.checkpoints == Every(seconds=600)
    written = config_as_yaml(config)
    assert written["checkpoint_every"] == " 10 min"
    assert [written["staleness"][key] for key in ("freeze", "weight", "lookahead")] == [
        "1, 23@20",
        "fitted",
        "exact",
    ]
    assert list(written)[-4:] == ["synthetic", "staleness", "optimizer", "gcnii"]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (StalenessSettings, {"freeze": "1,0@20"}),
        (StalenessSettings, {"weight": 1.5}),
        (StalenessSettings, {"lookahead": -1}),
        (StalenessSettings, {"refresh": -1}),
        (OptimizerSettings, {"betas": (0.9, 1.0)}),
        (OptimizerSettings, {"averaging": 1.0}),
        (Resolved, {"checkpoint_every": "10 hours"}),
    ],
)
def test_what_can_not_be_used_can_not_be_made(kind: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes)).replace("_", ".")):
        replace(kind(), **changes)


def names(config: type, prefix: str = "") -> set[str]:
    """Of all fields, those of sections with a dot."""
    found = set()
    for name, hint in get_type_hints(config).items():
        found |= names(hint, f"{name}.") if is_dataclass(hint) else {prefix + name}
    return found


def test_every_bound_is_some_fields() -> None:
    known = set().union(*(names(config) for config in COMMANDS))
    assert set(checks._PLANNED) <= known


@pytest.mark.parametrize("config", COMMANDS)
def test_a_field_that_a_command_fixes_is_no_flag(config: Any) -> None:
    parser = make_parser("x", config, "", "")
    assert parse(parser, config, []) == config()
    for field in fields(config):
        flag, default = field.name.replace("_", "-"), field.default
        if default is not MISSING and not isinstance(default, bool | tuple) and not field.init:
            with pytest.raises(ConfigError, match=f"--{flag} is not known"):
                parse(parser, config, [f"--{flag}={default}"])


@pytest.mark.parametrize("check", [check_plan_config, check_volume_config])
def test_plans_have_fewer_layers_than_a_run_may_have(check: Any) -> None:
    check_config(RunConfig(layers=10**6))
    config = PlanConfig if check is check_plan_config else VolumeConfig
    with pytest.raises(ConfigError, match=r"layers: 1000000 is out of range; use 1 to 100000"):
        check(config(layers=10**6))
