"""Runs of models of one's own: from the command line and from Python, resumed, asked, and not trusted."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.commands import gnnpipe, run
from tests.nn.own.made import DEEP, HEAD, written

pytestmark = pytest.mark.slow

GRAPH = ["--synthetic.num_nodes", "300", "--synthetic.blocks_per_class", "2", "--threads", "1"]
TRAIN = [
    "train",
    *GRAPH,
    "--model",
    "mine.py:layers",
    "--epochs",
    "6",
    "--checkpoint-every",
    "3",
    "--chunks",
    "3",
]


def losses(folder: Path) -> list[Any]:
    return [json.loads(line)["loss"] for line in (folder / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and its finished run."""
    folder = tmp_path_factory.mktemp("own")
    written(folder)
    done = gnnpipe(*TRAIN, "--out", "whole", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_stages_give_the_same_bits(folder: Path) -> None:
    done = gnnpipe(*TRAIN, "--out", "two", "--stages", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 stages with layers 0-1, 2-2" in done.stdout or "2 stages with layers 0-0, 1-2" in done.stdout
    assert losses(folder / "two") == losses(folder / "whole")
    names = ("model.safetensors",)
    assert all((folder / "two" / n).read_bytes() == (folder / "whole" / n).read_bytes() for n in names)


def test_a_run_goes_on_bit_for_bit(folder: Path) -> None:
    first = gnnpipe(*TRAIN, "--out", "half", "--epochs", "3", cwd=folder)
    assert first.returncode == 0, first.stderr
    # from another folder, as the whole path is kept
    done = gnnpipe("train", "--resume", str(folder / "half"), "--epochs", "6", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert f"the model's code is run: '{folder}/mine.py:layers', as '{folder}/half' says" in done.stderr
    assert losses(folder / "half") == losses(folder / "whole")


def test_predictions_and_hidden_rows(folder: Path) -> None:
    for out, flags in (("a.npz", []), ("b.npz", ["--stages", "2"]), ("c.npz", ["--embed", "0"])):
        done = gnnpipe("predict", "whole", "--out", out, *flags, cwd=folder)
        assert done.returncode == 0, done.stderr
    one, two, rows = (np.load(folder / name) for name in ("a.npz", "b.npz", "c.npz"))
    assert all(np.array_equal(one[name], two[name]) for name in one.files)
    assert any(rows[name].shape == (300, 8) for name in rows.files)


def test_sizes_that_are_given_go_to_the_function(folder: Path) -> None:
    flags = ["--layers", "2", "--model-options", "hidden=5", "--epochs", "2", "--chunks", "1"]
    done = gnnpipe(*TRAIN, *flags, "--out", "small", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1 stage with layers 0-1" in done.stdout
    plan = json.loads((folder / "small" / "plan.json").read_text())
    assert len(plan["model_checksum"]) == 64


def test_changed_code_is_said_or_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "run")
    changed = written(tmp_path, DEEP + "\n# another line\n")
    flags = ["--resume", str(tmp_path / "run"), "--epochs", "7", "--model", changed]
    done = gnnpipe("train", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the code of the model has changed since the run began" in done.stderr
    written(tmp_path, DEEP.replace("depth=3", "depth=4"))
    deeper = gnnpipe("train", *flags, "--epochs", "8", cwd=tmp_path)
    assert deeper.returncode == 2
    assert "makes other layers than those that the run was trained with (layers." in deeper.stderr


def test_code_in_a_run_is_run_only_if_it_is_named(folder: Path, tmp_path: Path) -> None:
    theirs = Path(shutil.copytree(folder / "whole", tmp_path / "theirs"))
    code = f"{HEAD}{DEEP}\nopen({str(tmp_path / 'executed')!r}, 'w').close()\n"
    (theirs / "mine.py").write_text(code)
    config = theirs / "config.yaml"
    config.write_text(config.read_text().replace(str(folder / "mine.py"), str(theirs / "mine.py")))
    (theirs / "plan.yaml").write_text(f"model: {theirs}/mine.py:layers\n")
    for arguments in (
        ["predict", "theirs", "--out", "p.npz"],
        ["train", "--resume", "theirs", "--epochs", "9"],
        ["train", "--config", "theirs/config.yaml", "--out", "again"],
        ["compare", "--config", "theirs/config.yaml", "--plans", "1x1", "2x1", "--out", "compared"],
        ["plan", "--model-options", "hidden=8", "--config", "theirs/plan.yaml"],
        ["export", "theirs", "--out", "exported"],
    ):
        done = gnnpipe(*arguments, cwd=tmp_path)
        assert done.returncode == 2, arguments
        assert f"give --model {theirs}/mine.py:layers if you trust it" in done.stderr, arguments
    assert not (tmp_path / "executed").exists()
    done = gnnpipe("predict", "theirs", "--out", "p.npz", "--model", "theirs/mine.py:layers", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "executed").exists()


SCRIPT = """
{guard}
    run = gnnpipe.train(
        model=layers, model_options={{"hidden": 6}}, layers=2, stages=2, epochs=4, checkpoint_every=2,
        out="run", synthetic={{"num_nodes": 300}}, threads=1,
    )
    gnnpipe.resume(run, epochs=6)
    print(run.config.model, run.predict().logits.shape, len(run.records()))
"""


def test_a_function_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(HEAD + DEEP + SCRIPT.format(guard='if __name__ == "__main__":'))
    done = run([sys.executable, str(script)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{script}:layers (300, 10) 6"


def test_a_script_without_a_guard_starts_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(HEAD + DEEP + SCRIPT.format(guard="if True:"))
    done = run([sys.executable, str(script)], tmp_path)
    assert done.returncode == 1
    assert 'put what starts the run under: if __name__ == "__main__":' in done.stderr
    assert not (tmp_path / "run").exists()


def test_mistakes_are_told_before_any_rank_starts(folder: Path) -> None:
    for flags, message in (
        (["--model", "mine.py:layer"], "has no function layer; did you mean 'layers'"),
        (["--model-options", "dept=3"], "has no argument dept; did you mean 'depth'"),
        (["--stages", "4"], "4 stages can't share 3 layers"),
        (["--jk", "sum"], "jk: sum says nothing about"),
    ):
        done = gnnpipe(*TRAIN, *flags, "--out", "wrong", cwd=folder)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert not (folder / "wrong").exists()
