"""Flags become a config; mistakes become one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gnnpipe.base.config import RunConfig
from gnnpipe.base.errors import ConfigError
from gnnpipe.cli.main import main
from gnnpipe.cli.parser import make_parser, parse


def read(*arguments: str) -> RunConfig:
    return parse(make_parser("train", RunConfig, "", ""), RunConfig, list(arguments))


def test_no_flags_are_the_defaults() -> None:
    assert read() == RunConfig()


def test_flags_of_every_kind() -> None:
    config = read(
        "--dataset", "Cora", "--weight-decay", "0.1", "--eval-every=3", "--staleness", "paper", "--overwrite",
        "--staleness.freeze", "5", "--synthetic.num_nodes", "99", "--optimizer.betas", "[0.5, 0.9]",
    )  # fmt: skip
    assert (config.dataset, config.weight_decay, config.eval_every, config.overwrite) == (
        "Cora",
        0.1,
        3,
        True,
    )
    assert (config.staleness.preset, config.staleness.freeze) == ("paper", 5)
    assert config.synthetic.num_nodes == 99
    assert config.optimizer.betas == (0.5, 0.9)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("hidden: 7\nlayers: 3\nstaleness:\n  gradient: reuse\n")
    config = read("--config", str(file), "--layers", "5")
    assert (config.hidden, config.layers, config.staleness.gradient) == (7, 5, "reuse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--chnks", "3"], "--chnks is not known; did you mean '--chunks'"),
        (["--chunks", "many"], "chunks: 'many' can't be used; expected a whole number or null"),
        (["--lr", "fast"], "lr: 'fast' can't be used; expected a number"),
        (
            ["--optimizer.betas", "3"],
            r"optimizer.betas: '3' can't be used; expected a list such as \[0.9, 0.999\]",
        ),
        (["Cora"], "'Cora' stands alone; a value follows its flag, as in --dataset Cora"),
        (
            ["--staleness.gradent", "x"],
            "--staleness.gradent is not known; did you mean '--staleness.gradient'",
        ),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--staleness.freeze", "20:23"], "'20:23' is no value of any flag"),
        (["--staleness.freeze=1:30"], "'1:30' is no value of any flag"),
    ],
)
def test_errors(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)


def test_mistakes_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    for text, message in (
        ("hiden: 7", "--hiden is not known; did you mean '--hidden'"),
        ("staleness: {gradent: 7}", "--staleness.gradent is not known; did you mean '--staleness.gradient'"),
        (
            "staleness: paper",
            "staleness: 'paper' must be written with its fields, as in staleness: {preset: paper}",
        ),
        ("hidden: wide", "hidden: 'wide' can't be used; expected a whole number"),
        ("layers: [", "Problems parsing config"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(message)):
            read("--config", str(file))


def test_main_without_a_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "gnnpipe train --stages 2" in capsys.readouterr().out


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == (
        "gnnpipe: error: 'trian' is not a command; use one of train, compare, plan, profile, volume, show; "
        "did you mean 'train'?\n"
    )
