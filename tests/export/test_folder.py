"""An exported folder: what is in it, that it stands alone, and where it may be written."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import gnnpipe
from gnnpipe.cli.main import main
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.export.source import _plain
from gnnpipe.files.writing import write_tensors
from tests.cli.commands import BIN, environment
from tests.engine.test_exact import MODELS as NAMES
from tests.export.runs import Made, drawn, given, made_run, predicted

# Every kind of text that an exported file may have: settings, and changes to the graph.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{name: ({"model": name}, {}) for name in NAMES},
    "one layer": ({"model": "gcn", "layers": 1, "hidden": 1}, {"weighted": True}),
    "undirected": ({"model": "sage", "undirected": True, "normalize_features": True}, {"weighted": True}),
    "degree": ({"model": "gcn", "undirected": True, "features": "degree", "normalize_features": True}, {}),
    "degree both ways": ({"model": "gcnii", "features": "degree", "dropout": 0.0}, {"weighted": True}),
    "laplacian": ({"model": "resgcn", "features": "laplacian:12", "standardize_features": True}, {}),
    "values": ({"model": "gcnii", "standardize_features": True}, {"y": 9 + torch.randn(24, 2)}),
    "labels": ({"model": "resgcn", "normalize_features": True}, {"y": (torch.randn(24, 5) > 0).float()}),
}
# Runs each model.py as a script, then loads it and keeps its output; nothing may import gnnpipe.
ALONE = """
import runpy, sys, torch

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "gnnpipe":
            raise ImportError("gnnpipe is not here")

sys.meta_path.insert(0, Refuse())
try:
    import gnnpipe
except ImportError:
    pass
else:
    sys.exit("gnnpipe could be imported")
for folder in sys.argv[1:]:
    runpy.run_path(f"{folder}/model.py", run_name="__main__")
    load = runpy.run_path(f"{folder}/model.py")["load"]
    with torch.no_grad():
        torch.save(load()(*torch.load(f"{folder}/given.pt")), f"{folder}/output.pt")
    assert load(folder).training is False
"""


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return made_run(tmp_path / "run", drawn())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Made, Path]]:
    """Every kind, and the folder of its export."""
    place, found = tmp_path_factory.mktemp("export"), {}
    for number, (name, (changes, graph)) in enumerate(KINDS.items()):
        made = made_run(place / f"run-{number}", drawn(**graph), **changes)
        found[name] = made, made.run.export(place / f"out-{number}")
    return found


def test_files_are_as_a_linter_wants_them(exported: dict[str, tuple[Made, Path]]) -> None:
    """Also formatted as ruff formats, by its defaults; nothing is imported or made in vain."""
    files = [str(folder / "model.py") for _, folder in exported.values()]
    rules = "E,F,W,I,B,C4,UP,SIM,RET,PTH,RUF,N,A,ARG,ERA"
    for command in (
        ["format", "--check", "--diff"],
        ["check", "--select", rules, "--ignore", "N812", "--target-version", "py310"],
    ):
        done = ran([str(BIN / "ruff"), *command, "--isolated", "--no-cache", *files])
        assert done.returncode == 0, done.stdout + done.stderr


def ran(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
def test_files_are_typed(exported: dict[str, tuple[Made, Path]], tmp_path: Path) -> None:
    files = []
    for number, (_, folder) in enumerate(exported.values()):
        files.append(str(shutil.copy(folder / "model.py", tmp_path / f"model_{number}.py")))
    # without torch's own types, which take a minute to read
    flags = [
        "--strict", "--follow-imports", "skip", "--ignore-missing-imports", "--allow-subclassing-any",
        "--allow-untyped-calls", "--no-warn-return-any",
    ]  # fmt: skip
    done = ran([sys.executable, "-m", "mypy", *flags, *files], tmp_path)
    assert done.returncode == 0, done.stdout


def test_they_import_little(exported: dict[str, tuple[Made, Path]]) -> None:
    allowed = {"__future__", "itertools", "json", "pathlib", "torch", "torch_geometric"}
    for _, folder in exported.values():
        tree = ast.parse((folder / "model.py").read_text())
        top = {name for node in tree.body for name in imported(node)}
        assert top <= allowed
        assert {name for node in ast.walk(tree) for name in imported(node)} - top <= {"safetensors"}
        assert "torch and torch_geometric, and `load` needs safetensors" in (ast.get_docstring(tree) or "")


def test_names_can_end_no_docstring() -> None:
    """Letters of any language stay."""
    found = _plain('straße 研究_1 """ \\N{BULLET}\n\u202e$')
    assert found == "straße 研究_1 ??? ?N?BULLET????"
    assert ast.literal_eval(f'"""{found}"""') == found


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {name.name.split(".")[0] for name in node.names}
    return {(node.module or "").split(".")[0]} if isinstance(node, ast.ImportFrom) else set()


@pytest.mark.slow
def test_they_stand_alone(exported: dict[str, tuple[Made, Path]], tmp_path: Path) -> None:
    """In a process where gnnpipe can't be imported, moved to another place, with its runs removed."""
    graphs = {name: drawn(**graph) for name, (_, graph) in KINDS.items()}
    folders = {}
    for number, (name, (made, folder)) in enumerate(exported.items()):
        folders[name] = Path(shutil.copytree(folder, tmp_path / f"moved-{number}"))
        features = None if made.run.config.features is None else raw_features(name, made)
        torch.save(given(graphs[name], features), folders[name] / "given.pt")
    done = ran([sys.executable, "-I", "-c", ALONE, *map(str, folders.values())], tmp_path)
    assert done.returncode == 0, done.stderr
    for name, folder in folders.items():
        made, _ = exported[name]
        same = predicted(made.run.to_pyg(), torch.load(folder / "given.pt"))
        assert torch.equal(torch.load(folder / "output.pt"), same)


def raw_features(name: str, made: Made) -> torch.Tensor:
    """Features that are made, before they are scaled."""
    changes, graph = KINDS[name]
    features = gnnpipe.Graph.from_pyg(
        drawn(**graph), features=changes["features"], undirected=changes.get("undirected", False)
    ).features
    assert isinstance(features, torch.Tensor)
    return features


def test_what_it_says_of_itself(exported: dict[str, tuple[Made, Path]]) -> None:
    about = {name: json.loads((folder / "model.json").read_text()) for name, (_, folder) in exported.items()}
    sizes = ("class", "model", "layers", "hidden", "num_features", "num_classes", "dropout", "constants")
    assert [about["gcnii"][key] for key in sizes] == [
        "Gcnii", "gcnii", 4, 8, 6, 3, 0.5, {"alpha": 0.1, "theta": 0.5},
    ]  # fmt: skip
    assert about["gcnii"]["trained"]["best_epoch"] == 3
    assert about["gcnii"]["trained"]["test_at_best_val"] == 0.25
    assert about["gcnii"]["versions"]["torch"] == torch.__version__
    assert about["gcnii"]["output"] == {"task": "multiclass", "gives": "logits", "class_names": []}
    assert about["sage"]["edges"]["normalization"].startswith("D^-1 A")
    assert about["undirected"]["edges"]["undirected"] is about["undirected"]["edges"]["weighted"] is True
    assert about["gcn"]["edges"]["weighted"] is False
    assert about["values"]["output"]["gives"] == "values"
    assert len(about["values"]["output"]["value_mean"]) == 2
    assert about["labels"]["output"]["task"] == "multilabel"
    features = {name: tuple(about[name]["features"].values()) for name in about}
    assert features["gcn"] == ("none", "nobody", "none", "nothing")
    assert features["degree"] == ("degree", "degree_features", "normalize", "the graph trained on")
    assert features["laplacian"] == ("laplacian:12", "gnnpipe.load", "standardize", "the graph trained on")


NAMED = ("apple", 'quo"te', "\n'''\"\"\"")


def test_names_of_classes(tmp_path: Path) -> None:
    folder = with_names(tmp_path)
    assert json.loads((folder / "model.json").read_text())["output"]["class_names"] == list(NAMED)
    assert "apple" not in (folder / "model.py").read_text()


@pytest.mark.slow
def test_the_example_prints_names_of_classes(tmp_path: Path) -> None:
    done = ran([sys.executable, str(with_names(tmp_path) / "model.py")])
    assert done.returncode == 0, done.stderr
    assert set(ast.literal_eval(done.stdout)) <= set(NAMED)


def with_names(tmp_path: Path) -> Path:
    """The export of a run whose classes have names."""
    graph = replace(gnnpipe.Graph.from_pyg(drawn()), class_names=NAMED)
    return made_run(tmp_path / "run", graph).run.export(tmp_path / "out")


def test_texts_of_a_run_do_not_become_code(made: Made, tmp_path: Path) -> None:
    """The folder may be somebody else's."""
    model = made.run.folder / "model.safetensors"
    with safe_open(model, framework="pt") as file:
        about = dict(file.metadata())
    evil = '"""\nraise SystemExit("taken over")\n"""\\'
    write_tensors(model, made.weights, about | {"dataset": evil, "metric": evil, "gnnpipe": evil})
    text = (made.run.export(tmp_path / "out") / "model.py").read_text()
    made.run.to_pyg()
    assert "SystemExit" not in {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    settings = made.run.folder / "config.yaml"
    good = settings.read_text()
    for line, bad, message in (
        ("dropout: 0.5", "dropout: .nan", "dropout: nan is out of range"),
        ("  alpha: 0.1", "  alpha: .inf", "gcnii.alpha: inf is out of range"),
        ("model: gcnii", "model: gcnii.x", "model: 'gcnii.x' is not known"),
        ("features: null", 'features: "degree\\"\\"\\""', "features: .* is not known"),
    ):
        assert line in good
        settings.write_text(good.replace(line, bad))
        with pytest.raises(ConfigError, match=message):
            made.run.to_pyg()


def test_weights_of_another_model(made: Made) -> None:
    settings, plan = made.run.folder / "config.yaml", made.run.folder / "plan.json"
    text, content = settings.read_text(), plan.read_text()
    for line, other in (
        ("layers: 4", "layers: 5"),
        ("layers: 4", "layers: 1000000"),
        ("hidden: 8", "hidden: 9"),
        ("hidden: 8", "hidden: 100000000"),
        ("model: gcnii", "model: resgcn"),
    ):
        settings.write_text(text.replace(line, other))
        with pytest.raises(DataError, match=r"does not hold the weights that config\.yaml describes"):
            made.run.to_pyg()
    settings.write_text(text)
    for key, value, message in (
        ("task", None, r"no kind of prediction that is known \(task: None\)"),
        ("task", "regression", "has no value_mean and value_deviation for 3 values"),
        ("class_names", ["a"], "has 1 class_names for 3 classes"),
        (
            "scaling",
            {"columns": {"mean": [1.0], "deviation": [1.0]}},
            "scales 1 columns, and the model has 6",
        ),
    ):
        changed = json.loads(content)
        changed["graph"][key] = value
        plan.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=message):
            made.run.to_pyg()


def test_no_weights_yet(made: Made, tmp_path: Path) -> None:
    (made.run.folder / "model.safetensors").unlink()
    with pytest.raises(
        ConfigError, match=r"run: .* has no model.safetensors yet, which is written at the first"
    ):
        made.run.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (made.run.folder / "model.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(DataError, match=r"model.safetensors' is damaged"):
        made.run.to_pyg()


def test_weights_that_do_not_say_what_they_are(made: Made, tmp_path: Path) -> None:
    """As those of the first version."""
    write_tensors(made.run.folder / "model.safetensors", made.weights, {})
    folder = made.run.export(tmp_path / "out")
    assert "trained" not in json.loads((folder / "model.json").read_text())
    assert "gnnpipe trained it;" in (folder / "model.py").read_text()


def test_only_an_export_is_replaced(made: Made, tmp_path: Path) -> None:
    out = made.run.export(tmp_path / "deep" / "out")
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.py", "model.safetensors"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]
    with pytest.raises(ConfigError, match="holds an exported model already; choose another --out or add"):
        made.run.export(out)
    (out / "__pycache__").mkdir()  # as of a script that imported it
    (out / "model.py").write_text("")
    made.run.export(out, overwrite=True)
    assert (out / "model.py").read_text()
    (out / "mine.txt").write_text("")
    with pytest.raises(ConfigError, match=r"is not just an exported model \('mine.txt' is no file of one\)"):
        made.run.export(out, overwrite=True)
    with pytest.raises(ConfigError, match=r"is not just an exported model"):
        made.run.export(made.run.folder, overwrite=True)
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(ConfigError, match="is a link; name the folder that it leads to"):
        made.run.export(tmp_path / "link", overwrite=True)
    with pytest.raises(ConfigError, match="out: '3' can't be used; expected a folder to write"):
        made.run.export(3)  # type: ignore[arg-type]


def test_the_command(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(made.run.folder), tmp_path / "out"
    assert main(["export", run, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "weights of epoch 4, the best so far of a run that is not finished: model.json, model.py" in said
    assert f"python {out}/model.py" in said
    for arguments, message in (
        ([run], "out: it is missing"),
        ([run, "--out", str(out)], "holds an exported model already"),
        ([str(tmp_path), "--out", str(out)], "is no run (config.yaml is absent)"),
        ([run, "--ou", str(out)], "did you mean"),
    ):
        assert main(["export", *arguments]) == 2
        assert message in capsys.readouterr().err
    (made.run.folder / "summary.json").write_text("{}")
    assert main(["export", run, "--out", str(out), "--overwrite"]) == 0
    assert "gcnii of 4 layers with the weights of epoch 4: model.json" in capsys.readouterr().out


def test_runs_of_older_versions(tmp_path: Path) -> None:
    """Their plan.json knows neither weights nor scaling."""
    old = Path(__file__).parents[1] / "data" / "runs-2026-11"
    for name, layers in (("gcnii", 5), ("resgcn", 4)):
        folder = gnnpipe.open(shutil.copytree(old / name, tmp_path / name)).export(tmp_path / f"{name}-out")
        about = json.loads((folder / "model.json").read_text())
        assert (about["model"], about["layers"], about["num_features"]) == (name, layers, 6)
        assert "weighted" not in about["edges"]
