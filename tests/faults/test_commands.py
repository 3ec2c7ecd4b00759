"""Going on and starting again, as users do it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from gnnpipe.cli.main import main
from tests.cli.commands import BIN, SMALL, gnnpipe, run


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``run``, with checkpoints after 4 and 6 epochs."""
    path = tmp_path_factory.mktemp("resume")
    flags = ["--stages", "2", "--chunks", "4", "--checkpoint-every", "2"]
    done = gnnpipe("train", *SMALL, *flags, "--out", "run", cwd=path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.slow
def test_more_epochs_on_other_ranks(folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folder, tmp_path / "again")
    before = losses(folder / "run")
    done = gnnpipe("train", "--resume", "run", "--epochs", "8", "--stages", "1", "--parts", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "from here on: epochs 8 (was 6)" in done.stderr
    assert "going on from epoch 6" in done.stdout
    assert losses(folder / "run")[:6] == before
    assert len(losses(folder / "run")) == 8
    shown = gnnpipe("show", "run", cwd=folder)
    assert "after epoch 6, until then 2x1x4" in shown.stdout
    assert json.loads((folder / "run/summary.json").read_text())["epochs"] == 8
    sent = json.loads((folder / "run/summary.json").read_text())["bytes_per_epoch"]
    assert sent["communication-layer"] == 0  # bytes are those of the plan that runs


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hidden", "8"], r"hidden: 8 is not what '.*run' was trained with \(16\)"),
        (["--synthetic.seed", "3"], "synthetic: .*can't change on the way"),
        (["--optimizer.name", "adamw"], "optimizer.name: adamw can't go on with the moments of adam"),
        (["--out", "x"], "out: x contradicts --resume"),
        (["--overwrite"], "overwrite: True contradicts --resume"),
        (["--config", "x.yaml"], "config: --resume takes the settings of its own run|config: 'x.yaml' can't"),
        (
            ["--checkpoint-every", "often"],
            "checkpoint-every: 'often' can't be used; write a number of epochs",
        ),
        (["--epochs", "2"], r"all 6 epochs of '.*run' are done; give more, as in --epochs 12"),
    ],
)
def test_what_can_not_go_on(
    folder: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", str(folder / "run"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") <= 2
    assert re.search(message, error), error


def test_nothing_to_go_on_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "holds no run (No such file or directory: 'config.yaml')" in capsys.readouterr().err


@pytest.mark.slow
def test_torchrun_starts_again(folder: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("torchrun_main.py")
    flags = ["train", *SMALL, "--stages", "2", "--chunks", "4", "--checkpoint-every", "2", "--out", "run"]
    launcher = [str(BIN / "torchrun"), "--nproc-per-node", "2", "--max-restarts", "1", "--rdzv-backend",
                "c10d", "--rdzv-endpoint", "localhost:0", str(script)]  # fmt: skip
    done = run([*launcher, *flags], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on from epoch" in done.stdout
    assert losses(tmp_path / "run") == losses(folder / "run")[:6]


@pytest.mark.slow
def test_torchrun_needs_a_folder_to_start_again(tmp_path: Path) -> None:
    launcher = [str(BIN / "torchrun"), "--nproc-per-node", "1", "--max-restarts", "1", "-m", "gnnpipe"]
    done = run([*launcher, "train", *SMALL], tmp_path)
    assert done.returncode != 0
    assert "out: torchrun --max-restarts needs a folder that a restart finds again" in done.stderr
