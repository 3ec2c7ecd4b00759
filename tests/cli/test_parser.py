"""Flags become a config; mistakes become one line."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from gnnpipe.cli.main import main
from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.config.catalog import dataset_names
from gnnpipe.config.checks import check_config, check_plan_config, check_profile_config, check_volume_config
from gnnpipe.config.commands import PlanConfig, ProfileConfig, VolumeConfig
from gnnpipe.config.keywords import configured
from gnnpipe.config.resume import stored_settings
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, GnnpipeError, did_you_mean, shown
from gnnpipe.planner.hardware import SHIPPED, load_hardware
from gnnpipe.records.folder import RunFolder


def read(*arguments: str) -> RunConfig:
    return parse(make_parser("train", RunConfig, "", ""), RunConfig, list(arguments))


def test_no_flags_are_the_defaults() -> None:
    assert read() == RunConfig()


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("null", None)])
def test_a_switch_may_be_left_to_the_run(text: str, value: bool | None) -> None:
    assert read("--cuda-graphs", text).cuda_graphs is value
    assert configured(RunConfig(), {"cuda_graphs": value}).cuda_graphs is value
    with pytest.raises(
        ConfigError, match=r"^cuda-graphs: 'yes' can't be used; expected true or false or null"
    ):
        read("--cuda-graphs", "yes")


@pytest.mark.parametrize(
    ("text", "value"),
    [("balanced", "balanced"), ("[1, 2.5]", (1.0, 2.5)), ("null", None)],
)
def test_class_weights_are_a_word_or_numbers(text: str, value: Any) -> None:
    assert check_config(read("--class-weights", text)).class_weights == value
    if value is not None:
        assert configured(RunConfig(), {"class_weights": value}).class_weights == value


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
        (["--layers", "20:23"], "layers: '20:23' can't be used; expected a whole number"),
        (["--layers=0x10"], "layers: '0x10' can't be used; expected a whole number"),
        (["--layers"], "layers: its value is missing; write it behind --layers"),
        (["--overwrite=3"], "overwrite: '3' can't be used; write --overwrite or --no-overwrite"),
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
            "staleness: 'paper' must be written with its fields, as in staleness: {preset: ...}",
        ),
        ("hidden: wide", "hidden: 'wide' can't be used; expected a whole number"),
        ("hidden: null", "hidden: 'null' can't be used; expected a whole number"),
        ("overwrite: 3", "overwrite: '3' can't be used; expected true or false"),
        ("layers: [", "can't be read (line 1: "),
        ("layers: 20:23", "layers: '20:23' can't be used; expected a whole number"),
        ("layers: 3\nlayers: 4", "line 2 gives 'layers' a second time"),
        ("config: other.yaml", "config: a file can't name another one"),
        ("", "holds no fields"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(message)):
            read("--config", str(file))


def test_flags_win_over_a_file_that_stands_behind_them(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("hidden: 7\nlayers: 3\noverwrite: true\n")
    config = read("--layers", "5", "--no-overwrite", f"--config={file}")
    assert (config.hidden, config.layers, config.overwrite) == (7, 5, False)


def test_only_the_command_line_has_a_run_replaced(tmp_path: Path) -> None:
    files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    files[0].write_text("layers: 3\n")
    for text, message in (
        ("no-overwrite: false", "overwrite: 'false' can't be used"),
        ('"over\\x77rite": true', r"overwrite: '.*second.yaml' can't ask for it, .* give --overwrite itself"),
        ("overwrite: true", r"overwrite: '.*second.yaml' can't ask for it, .* give --overwrite itself"),
    ):
        files[1].write_text(text)
        with pytest.raises(ConfigError, match=message):
            read("--config", str(files[0]), f"--config={files[1]}")
    assert read("--config", str(files[1]), "--overwrite").overwrite
    assert not read("--no-overwrite", "--config", str(files[1])).overwrite


@pytest.mark.parametrize(
    ("command", "flag", "meant"),
    [
        ("train", "--stage 2", "--stages"),
        ("train", "--ep=3", "--epochs"),
        ("train", "--staleness.pre paper", "--staleness.preset"),
        ("train", "--optimizer.bet [0.5,0.9]", "--optimizer.betas"),
        ("train", "--over", "--overwrite"),
        ("train", "--no-over", "--no-overwrite"),
        ("train", "--conf x.yaml", "--config"),
        ("train", "--weight-decay.dense 0.0005", "--optimizer.dense_weight_decay"),
        ("train", "--lr.x 1", "--lr"),
        ("train", "--resum x", "--resume"),
        ("plan", "--device 2", "--devices"),
        ("plan", "--synthetic.num 9", "--synthetic.num_nodes"),
        ("profile", "--model [gcn]", "--models"),
        ("volume", "--js", "--json"),
        ("compare", "--js a b", "--json"),
        ("show", "--js x", "--json"),
    ],
)
def test_the_beginning_of_a_flag_is_no_flag(
    command: str, flag: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *flag.split()]) == 2
    error = capsys.readouterr().err
    assert "is not known" in error
    assert f"did you mean '{meant}'?" in error
    assert error.count("\n") == 1


ODD = ["x", "", "[1,2]", "{a: 1}", "nan", "1e999", "-3", "null", "é" * 3000, "3.5", "true", "[a", "20:23"]


@pytest.mark.parametrize(
    ("config", "check"),
    [
        (RunConfig, check_config),
        (PlanConfig, check_plan_config),
        (ProfileConfig, check_profile_config),
        (VolumeConfig, check_volume_config),
    ],
)
def test_what_is_said_of_odd_values_is_ours_and_short(config: Any, check: Any, tmp_path: Path) -> None:
    parser = make_parser("x", config, "", "")
    kinds = {
        repr(action.type): action.option_strings[0] for action in parser._actions if action.option_strings
    }
    file = tmp_path / "c.yaml"
    for flag, value in itertools.product({*kinds.values(), "--undirected"} - {"--print_config"}, ODD):
        file.write_text(f"{flag[2:].replace('-', '_')}: {value}")
        for arguments in ([f"{flag}={value}"], ["--config", str(file)]):
            message = ""
            try:
                check(parse(parser, config, arguments))
            except GnnpipeError as error:
                message = str(error)
            assert "\n" not in message
            assert len(message) < 800
            for word in ("NestedArg", "Namespace", "<class", "Parser key", "Union", "argument "):
                assert word not in message, message


LEVELS = 30


def bomb(kind: str) -> str:
    """Aliases of aliases: 10 to the power of 30 values, spelt out."""
    if kind == "merge":
        lines = ["a0: &a0 {k: 1}"]
        lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, LEVELS)]
        return "\n".join(lines)
    open_, close = ("[", "]") if kind == "list" else ("{", "}")
    lines = ["a0: &a0 [x, x]"]
    for i in range(1, LEVELS):
        items = [f"{'' if kind == 'list' else f'k{n}: '}*a{i - 1}" for n in range(10)]
        lines.append(f"a{i}: &a{i} {open_}{', '.join(items)}{close}")
    return "\n".join([*lines, f"layers: *a{LEVELS - 1}"])


@pytest.mark.parametrize("kind", ["list", "map", "merge"])
def test_aliases_of_aliases_fill_neither_memory_nor_message(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(bomb(kind))
    with pytest.raises(ConfigError, match="holds more than 10,000 values, aliases written out") as caught:
        read("--config", str(file))
    assert len(str(caught.value)) < 600
    with pytest.raises(ConfigError, match="holds more than 10,000 values"):
        stored_settings(bombed_run(tmp_path, kind))
    with pytest.raises(GnnpipeError, match="holds more than 10,000 values"):
        RunFolder(bombed_run(tmp_path, kind)).settings()


def bombed_run(folder: Path, kind: str) -> Path:
    (folder / "config.yaml").write_text(bomb(kind))
    return folder


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("layers: &a [*a]")
    with pytest.raises(ConfigError, match=r"can't be read \(line 1: a value contains itself\)"):
        read("--config", str(file))


def test_a_message_repeats_the_beginning_of_a_long_value() -> None:
    assert shown("a" * 300) == "a" * 200 + "... (300 characters)"
    assert shown("two\nlines \x1b[31m") == "two lines ?[31m"
    assert shown({"a": [1, "b"]}) == "{a: [1, b]}"
    assert shown([]) == "[]"
    nested: list[Any] = ["x"]
    for _ in range(60):
        nested = [nested] * 10  # 10^60 letters, were they written out
    assert len(shown(nested)) < 250
    assert shown(10**10_000) == "a whole number of 33220 bits"
    for key in ("--dataset", "--model", "--checkpoint-every", "--staleness.freeze", "--layers"):
        with pytest.raises(GnnpipeError) as caught:
            check_config(read(key, "z" * 5000))
        assert len(str(caught.value)) < 800
    for path in ("z" * 5000, "\0"):
        with pytest.raises(GnnpipeError) as caught:
            load_hardware(path)
        assert len(str(caught.value)) < 800


@pytest.mark.parametrize("path", ["z" * 300, "a/" * 3000, "a\0b"])
@pytest.mark.parametrize(
    "command",
    ["train --out", "train --resume", "train --root", "train --config", "show", "compare x", "profile --out",
     "plan --hardware", "compare --plans 1x1 2x1 --out"],
)  # fmt: skip
def test_a_path_that_no_system_takes_is_one_short_line(
    command: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command.split()
    if arguments[-1] == "--root":
        arguments = ["train", "--dataset", "Photo", "--root"]
    assert main([*arguments, path]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert len(error) < 500


@pytest.mark.parametrize(
    ("value", "choices", "meant"),
    [
        ("a500", SHIPPED, "a5000x8"),
        ("A5000", SHIPPED, "a5000x8"),
        ("h10", SHIPPED, "h100"),
        ("cpu25g", SHIPPED, "cpu-25g"),
        ("cpu-2", SHIPPED, "cpu-25g"),
        ("a400", SHIPPED, "a100"),
        ("ogbn-arx", dataset_names(), "ogbn-arxiv"),
        ("arxiv", dataset_names(), "ogbn-arxiv"),
        ("squirel", dataset_names(), "squirrel"),
        ("amazon-r", dataset_names(), "Amazon-ratings"),
        ("gncii", ["gcn", "gcnii"], "gcnii"),
    ],
)
def test_the_name_that_begins_alike_is_the_one_that_was_meant(value: str, choices: Any, meant: str) -> None:
    assert did_you_mean(value, choices) == f"; did you mean '{meant}'?"


def test_nothing_is_meant_by_a_strange_word() -> None:
    assert did_you_mean("zzzz", SHIPPED) == ""
    assert did_you_mean("", SHIPPED) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["plan", "--hardware", "a500"],
            "hardware: 'a500' is not known; did you mean 'a5000x8'? Use one of",
        ),
        (
            ["train", "--dataset", "Coar"],
            "dataset: 'Coar' is not known; did you mean 'Cora'? Choose one of",
        ),
        (
            ["train", "--model", "gncii"],
            "model: 'gncii' is not known; did you mean 'gcnii'? Choose one of",
        ),
        (
            ["train", "--staleness", "papre"],
            "staleness: 'papre' is not known; did you mean 'paper'? Choose",
        ),
        (["trian"], "command: 'trian' is not known; did you mean 'train'? Use one of import, train"),
    ],
)
def test_the_hint_stands_in_front_of_the_list(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_main_without_a_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "gnnpipe train --stages 2" in capsys.readouterr().out
