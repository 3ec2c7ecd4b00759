"""Models of one's own, as settings name them: places, options, trust."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.config.checks import check_config
from gnnpipe.config.code.options import arguments_given, entries_of, parse_options, with_given
from gnnpipe.config.code.place import CodePlace, place_of, short_name
from gnnpipe.config.code.trust import check_code
from gnnpipe.config.keywords import configured
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError

CODE = "def layers(num_features, num_classes):\n    return []\n"


@pytest.mark.parametrize(
    ("text", "module", "function", "is_file", "short"),
    [
        ("my_model.py:layers", "my_model.py", "layers", True, "my_model"),
        ("/a b/c:d/deep.py:gat", "/a b/c:d/deep.py", "gat", True, "deep"),
        ("package.models.deep:gat", "package.models.deep", "gat", False, "deep"),
    ],
)
def test_places(text: str, module: str, function: str, is_file: bool, short: str) -> None:
    place = CodePlace.parse(text)
    assert (place.module, place.function, place.is_file) == (module, function, is_file)
    assert str(place) == text
    assert short_name(text) == short


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mine.py", "names no function; write mine.py:layers"),
        ("mine.py:", "names no function"),
        ("mine.txt:layers 2", "names no function"),
        ("a-b:layers", "names no function"),
        ("gncii", "did you mean 'gcnii'.* or name a function: my_model.py:layers"),
    ],
)
def test_other_models_are_refused(model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(RunConfig(model=model))


def test_a_file_gets_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_config(RunConfig(model="a.py:layers")).model == f"{tmp_path}/a.py:layers"
    assert check_config(RunConfig(model="a.b:layers")).model == "a.b:layers"


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.lists(st.integers(-9, 9), max_size=3),
)


@given(st.dictionaries(st.sampled_from(["heads", "act", "slope_2"]), PLAIN))
def test_options_are_read_as_they_were_given(options: dict[str, Any]) -> None:
    entries = entries_of(options)
    assert parse_options(entries) == options
    assert [type(value) for value in parse_options(entries).values()] == list(map(type, options.values()))


def test_several_options_in_one_word() -> None:
    found = parse_options(["heads=8,act=elu", "widths=[1, 2]"])
    assert found == {"heads": 8, "act": "elu", "widths": [1, 2]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("heads",), "'heads' can't be used; write name=value, as in heads=8"),
        (("2=3",), "write name=value"),
        (("a=1", "a=2"), "a is given twice"),
    ],
)
def test_other_options_are_refused(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"model-options: .*{message}"):
        check_config(RunConfig(model="a.py:layers", model_options=options))


def test_options_say_nothing_about_built_in_models() -> None:
    with pytest.raises(ConfigError, match="heads=8 says nothing about gcn"):
        check_config(RunConfig(model="gcn", model_options=("heads=8",)))


def test_options_of_python_are_plain_values() -> None:
    given = configured(RunConfig(), {"model": "a.py:layers", "model_options": {"heads": 8, "act": "elu"}})
    assert given.model_options == ("heads=8", "act=elu")
    with pytest.raises(ConfigError, match="model-options: act is a function; use numbers, words"):
        configured(RunConfig(), {"model_options": {"act": test_places}})


def test_usual_sizes_count_only_where_they_are_given() -> None:
    config = RunConfig(model="a.py:layers", hidden=128)
    assert arguments_given(config) == ("hidden=128",)
    assert set(arguments_given(with_given(config, {"layers", "out"}))) == {"hidden=128", "layers=32"}
    assert with_given(RunConfig(layers=32), {"layers"}) == RunConfig()


def test_a_function_stands_for_its_place() -> None:
    assert place_of(check_code) == "gnnpipe.config.code.trust:check_code"
    assert configured(RunConfig(), {"model": check_code}).model == "gnnpipe.config.code.trust:check_code"
    with pytest.raises(ConfigError, match=r"'.*<lambda>' can't be imported .* top level of a module"):
        place_of(lambda: None)


def test_a_function_of_a_script_stands_for_its_file(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    ask = "from gnnpipe.config.code.place import place_of\n"
    script.write_text(f"{ask}{CODE}print(place_of(layers))\n")
    assert _output([str(script)]) == f"{script}:layers"
    text = f"{ask}{CODE}try:\n    place_of(layers)\nexcept ValueError as error:\n    print(error)\n"
    assert "was defined in a notebook or at a prompt" in _output(["-c", text])
    assert "%%writefile my_model.py" in _output(["-c", text])


def _output(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def a_run(folder: Path) -> Path:
    folder.mkdir()
    (folder / "plan.json").write_text("{}")
    return folder


def test_code_outside_of_a_run_is_named(tmp_path: Path) -> None:
    run, model = a_run(tmp_path / "run"), f"{tmp_path}/mine.py:layers"
    assert check_code(model, [(run, model)]) == [f"the model's code is run: '{model}', as '{run}' says"]
    assert check_code(model, [(run, "gcn")]) == []  # the user has named it
    assert check_code("gcn", [(run, "gcn")]) == []


def test_code_that_came_with_a_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "run")
    (run / "theirs.py").write_text(CODE)
    (tmp_path / "link.py").symlink_to(run / "theirs.py")
    for place in (run / "theirs.py", tmp_path / "link.py", run / ".." / "run" / "theirs.py"):
        with pytest.raises(ConfigError, match=f"give --model {place}:layers if you trust it"):
            check_code(f"{place}:layers", [(run, f"{place}:layers")])
    # a module's name, found in the folder that the user works in
    monkeypatch.chdir(run)
    for model in ("theirs:layers", "theirs.py:layers"):
        with pytest.raises(ConfigError, match=f"give --model {model} if you trust it"):
            check_code(model, [(run, model)])


def test_code_by_a_relative_path_of_a_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of ours write whole paths; somebody else's may guess where it is unpacked."""
    run = a_run(tmp_path / "run")
    (tmp_path / "theirs.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"is named in .*whose files may be somebody else's"):
        check_code("theirs.py:layers", [(run, "theirs.py:layers")])
