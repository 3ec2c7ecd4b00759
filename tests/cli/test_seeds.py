"""`gnnpipe train --seeds`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gnnpipe
from gnnpipe.cli.main import main
from gnnpipe.errors import ConfigError, LostRankError, StoppedError
from gnnpipe.records.folder import RunFolder
from gnnpipe.report import seeds
from gnnpipe.run import job as jobs
from gnnpipe.run import session
from gnnpipe.run.job import Job
from tests.cli.commands import gnnpipe as typed
from tests.graphs import random_graph
from tests.made import record, summary

SMALL = (
    "--synthetic.num_nodes", "200", "--synthetic.blocks_per_class", "2", "--layers", "2", "--hidden", "8",
    "--epochs", "3", "--threads", "1",
)  # fmt: skip


class StandIn:
    """Takes the place of the ranks: it finishes runs without training, and counts what was made for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seeds: list[int] = []
        self.counts = {"loaded": 0, "cut": 0}
        self.fails_at: int | None = None
        monkeypatch.setattr(session, "_launch", self._launch)
        monkeypatch.setattr(session, "warm_up", lambda *_: None)
        monkeypatch.setattr(seeds, "draw_seeds", lambda *_: "picture")
        monkeypatch.setattr(jobs, "load_dataset", self._counted("loaded", jobs.load_dataset))
        monkeypatch.setattr(jobs, "prepare_file", self._counted("cut", jobs.prepare_file))

    def _counted(self, name: str, function: Any) -> Any:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.counts[name] += 1
            return function(*arguments, **keywords)

        return counted

    def _launch(self, job: Job, folder: RunFolder, *_: Any) -> None:
        assert job.graph.is_file()
        self.seeds.append(job.config.seed)
        if job.config.seed == self.fails_at:
            raise LostRankError("rank 0 failed first")
        folder.append(record(val=0.5))
        folder.write_summary(summary(epochs=1))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    monkeypatch.chdir(tmp_path)
    return StandIn(monkeypatch)


ASKED = ["train", *SMALL, "--out", "many", "--seeds", "0..3"]


def test_the_graph_is_loaded_and_cut_once(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ASKED) == 0
    assert stand_in.seeds == [0, 1, 2, 3]
    assert stand_in.counts == {"loaded": 1, "cut": 1}
    assert "standard deviation" in capsys.readouterr().out
    assert RunFolder(Path("many/seed-2")).settings()["seed"] == 2
    assert main(ASKED) == 0  # all is there
    assert stand_in.counts == {"loaded": 1, "cut": 1}
    assert len(stand_in.seeds) == 4


def test_it_goes_on_where_it_was_interrupted(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in.fails_at = 2
    assert main(ASKED) == 1
    assert stand_in.seeds == [0, 1, 2]
    assert main(["show", "many"]) == 0
    assert "not finished, and not counted: seed 2" in capsys.readouterr().out
    stand_in.fails_at = None
    assert main(ASKED) == 0
    assert stand_in.seeds == [0, 1, 2, 2, 3]
    assert "many/seed-1: there already" in capsys.readouterr().out


def test_a_signal_ends_all_runs_and_says_how_to_go_on(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told_to_end(*_: Any) -> None:
        raise StoppedError(15, "saved somewhere")

    monkeypatch.setattr(session, "_launch", told_to_end)
    assert main(ASKED) == 128 + 15
    assert "the same command with --out many goes on with the runs" in capsys.readouterr().err
    assert not Path("many/seed-1").exists()


def test_a_file_s_seed_gives_way(stand_in: StandIn) -> None:
    Path("settings.yaml").write_text("seed: 9\n")
    assert main([*ASKED, "--config", "settings.yaml"]) == 0
    assert stand_in.seeds == [0, 1, 2, 3]


def test_other_settings_in_the_same_folder_are_refused(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ASKED) == 0
    assert main([*ASKED, "--lr", "0.5"]) == 2
    assert "out: 'many/seed-0' holds a run with lr 0.005, not 0.5" in capsys.readouterr().err
    assert main([*ASKED, "--lr", "0.5", "--overwrite"]) == 0
    assert len(stand_in.seeds) == 8


def test_an_automatic_plan_is_chosen_once(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*ASKED, "--plan", "auto", "--devices", "2", "--hardware", "cpu-10g"]
    assert main(asked) == 0
    assert capsys.readouterr().out.count("fastest by simulation") == 1
    assert main(asked) == 0
    assert len(stand_in.seeds) == 4


def test_from_python_with_a_graph_in_memory(stand_in: StandIn, tmp_path: Path) -> None:
    data = random_graph(60, 3, num_features=4, num_classes=2)
    small: dict[str, Any] = {"layers": 2, "hidden": 8, "epochs": 3, "threads": 1, "out": tmp_path / "many"}
    stand_in.fails_at = 4
    with pytest.raises(LostRankError):
        gnnpipe.train_seeds((3, 4), data, **small)
    stand_in.fails_at = None
    found = gnnpipe.train_seeds("3,4", data, **small)
    assert stand_in.seeds == [3, 4, 4]
    assert stand_in.counts == {"loaded": 0, "cut": 2}  # once a call
    assert [(run.seed, run.run) for run in found.runs] == [
        (seed, str(tmp_path / "many" / f"seed-{seed}")) for seed in (3, 4)
    ]
    assert found.mean.best_val == 0.5
    for key in ("seed", "resume"):
        with pytest.raises(ConfigError, match=f"{key}: it says nothing about several seeds"):
            gnnpipe.train_seeds([0], data, **small, **{key: 1})
    with pytest.raises(ConfigError, match=r"seeds: '3' can't be used; name each, as in \[0, 1, 2\]"):
        gnnpipe.train_seeds(3, data, **small)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "a"], "seeds: 'a' can't be used"),
        (["--seeds", "0,1", "--seed", "3"], "seed: 3 contradicts --seeds"),
        (["--seeds", "0,1", "--resume", "x"], "seeds: x is a single run"),
    ],
)
def test_what_says_nothing_about_several_runs_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_launcher_s_processes_are_no_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "--seeds", "0,1"]) == 2
    assert "run it without torchrun" in capsys.readouterr().err


@pytest.mark.slow
def test_each_run_is_the_one_that_its_seed_alone_gives(tmp_path: Path) -> None:
    done = typed("train", *SMALL, "--stages", "2", "--seeds", "0,5", "--out", "many", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alone = typed("train", *SMALL, "--stages", "2", "--seed", "5", "--out", "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "records.jsonl").read_text().splitlines()]
        for name in ("many/seed-5", "alone", "many/seed-0")
    ]
    assert losses[0] == losses[1] != losses[2]
