"""`gnnpipe compare` and `gnnpipe volume` as a user types them, and training with parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from gnnpipe.cli.main import main
from tests.cli.commands import BIN, SMALL, gnnpipe, run

PLANS = ["--plans", "1x2", "2x1x4", "1x2+stale"]


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three plans that were run and compared; tests must leave them as they are."""
    folder = tmp_path_factory.mktemp("compared")
    done = gnnpipe("compare", *PLANS, *SMALL, "--out", "plans", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "speed-up" in done.stdout
    assert "1x2x1+stale" in done.stdout
    assert (folder / "plans" / "comparison.png").exists()
    return folder


@pytest.mark.slow
def test_what_is_there_is_not_run_again(compared: Path) -> None:
    before = (compared / "plans" / "1x2" / "summary.json").stat().st_mtime_ns
    done = gnnpipe("compare", *PLANS, *SMALL, "--out", "plans", "--json", cwd=compared)
    assert done.returncode == 0, done.stderr
    assert (compared / "plans" / "1x2" / "summary.json").stat().st_mtime_ns == before
    result = json.loads(done.stdout)
    graph, pipeline, stale = result["runs"]
    assert [item["plan"] for item in result["runs"]] == ["1x2x1", "2x1x4", "1x2x1+stale"]
    assert result["unequal"] == []
    assert graph["speed_up"] == 1
    assert pipeline["times_less"] == graph["bytes"] / pipeline["bytes"]
    assert stale["bytes_by_kind"] == graph["bytes_by_kind"]
    assert graph["bytes_by_kind"]["communication-layer"] == 0
    assert pipeline["bytes_by_kind"]["communication-graph"] == 0
    for item in result["runs"]:
        assert item["median_epoch_seconds"] > 0
        assert item["peak_memory_bytes"] > 0
        assert min(item["breakdown"].values()) >= 0


@pytest.mark.slow
def test_runs_of_other_settings_say_so(compared: Path, tmp_path: Path) -> None:
    done = gnnpipe("train", *SMALL, "--lr", "0.02", "--out", "other", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    both = [str(compared / "plans" / "1x2"), str(tmp_path / "other")]
    done = gnnpipe("compare", *both, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not equal: lr: 0.005, 0.02" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plans", "2by1"], "plans: '2by1' is no plan; write stages x parts as in 4x1"),
        (["--plans", "2x1+late"], "plans: '2x1+late' is no plan"),
        (["--plans", "2x1+int8+bf16", "1x2"], "plans: '2x1+int8+bf16' is no plan"),
        (["--plans", "2x1+int8+late", "1x2"], "words as in 4x1+recompute+int8 (exact, stale, relay, "),
        (["--plans", "0x2", "2x1"], "plans: '0x2' is no plan"),
        (["--plans", "2x1", "64x1"], "stages: 64 stages can't share 32 layers; use --stages 32 or fewer"),
        (
            ["--plans", "2x1", "1x2+stale", "--staleness", "exact"],
            "halo: stale contradicts --staleness exact",
        ),
        (["--plans", "2x1"], "runs: there is nothing to compare; name two runs or more, or two --plans"),
        (["here", "there", "--epochs", "5"], "runs: 'here' is run already, so flags of a run say nothing"),
        ([], "runs: there is nothing to compare"),
        (["here", "--plans", "2x1"], "runs: 'here' and --plans can't go together"),
        (["here", "there"], "runs: 'here' is no run (config.yaml is absent)"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = gnnpipe("compare", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_another_run_in_the_folder(compared: Path) -> None:
    done = gnnpipe("compare", *PLANS, *SMALL, "--lr", "0.1", "--out", "plans", cwd=compared)
    assert done.returncode == 2
    assert (
        "holds a run with lr 0.005, not 0.1; choose another --out, give --lr 0.005, or add --overwrite"
        in done.stderr
    )


@pytest.mark.slow
def test_a_run_that_is_not_finished(compared: Path, tmp_path: Path) -> None:
    shutil.copytree(compared / "plans" / "1x2", tmp_path / "begun")
    (tmp_path / "begun" / "summary.json").unlink()
    done = gnnpipe("compare", "begun", str(compared / "plans" / "1x2"), cwd=tmp_path)
    assert done.returncode == 2
    assert "runs: 'begun' is not finished; saved in begun" in done.stderr


@pytest.mark.slow
def test_parts_train_like_one_process(compared: Path, tmp_path: Path) -> None:
    """Graph parallelism is exact; the saved model has every layer once."""
    done = gnnpipe("train", *SMALL, "--out", "one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = records(tmp_path / "one"), records(compared / "plans" / "1x2")
    assert [r["loss"] for r in one] == pytest.approx([r["loss"] for r in two], rel=1e-4)
    first, second = (
        load_file(f / "model.safetensors") for f in (tmp_path / "one", compared / "plans" / "1x2")
    )
    assert first.keys() == second.keys()
    for record in two:
        assert len(record["ranks"]) == len(record["bytes_sent_by_rank"]) == 2
        for kind, count in record["bytes_sent"].items():
            assert sum(sent[kind] for sent in record["bytes_sent_by_rank"]) == count
        for rank in record["ranks"]:
            assert sum(rank.values()) == pytest.approx(record["seconds"], rel=0.05)
    predicted = read(compared / "plans" / "1x2" / "plan.json")["predictions"]["volume"]
    assert {kind.replace("_", "-"): count for kind, count in predicted.items()} == two[-1]["bytes_sent"]


@pytest.mark.slow
def test_parts_under_torchrun(tmp_path: Path) -> None:
    command = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "gnnpipe", "train", *SMALL]
    wrong = run([*command, "--stages", "2", "--parts", "2", "--out", "t"], tmp_path)
    assert wrong.returncode != 0
    assert (
        "stages (2) x parts (2) = 4 ranks, but 2 processes were started; use --nproc-per-node 4"
        in wrong.stderr
    )
    done = run([*command, "--parts", "2", "--optimizer.clip", "0.5", "--out", "t"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 parts (metis)" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--parts", "0"], "parts: 0 is out of range; use 1 to"),
        (
            ["--parts", "601"],
            "parts: 601 parts of a graph of 600 nodes would leave some empty; use --parts 600",
        ),
        (
            ["--parts", "2", "--chunks", "301"],
            "chunks: 301 does not fit a graph of 600 nodes in 2 parts; use 1 to 300",
        ),
        (["--halo", "late"], "halo: 'late' is not known; choose one of exact, stale"),
    ],
)
def test_parts_that_do_not_fit(
    flags: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("gnnpipe.run.session.warm_up", lambda *_: None)  # no rank is ever started
    assert main(["train", *SMALL, *flags, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_graph_that_metis_cannot_cut(tmp_path: Path) -> None:
    """Parts of less than four nodes come from the locality order, and the run says so."""
    tiny = ["--synthetic.num_nodes", "12", "--synthetic.num_classes", "3", "--synthetic.avg_degree", "3",
            "--synthetic.blocks_per_class", "1"]  # fmt: skip
    done = gnnpipe("train", *SMALL, *tiny, "--parts", "4", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 parts (METIS could not; reverse Cuthill-McKee instead)" in done.stdout


def test_volume(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["volume", "--synthetic.num_nodes", "600", "--devices", "4", "--layers", "8"]
    assert main(flags) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("1x4", "2x2", "4x1", "graph", "hybrid", "pipeline"))
    assert main([*flags, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [plan["stages"] for plan in result["plans"]] == [1, 2, 4]
    assert main(["volume", "--devices", "0"]) == 2
    assert "devices: 0 is out of range; use 1 to" in capsys.readouterr().err
