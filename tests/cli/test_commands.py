"""Real runs of the command line."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors.torch import load_file

from gnnpipe.cli import compare, train
from gnnpipe.cli.main import COMMANDS, main
from gnnpipe.schedule.volume import pipeline_bytes
from tests.cli.commands import BIN, SMALL, environment, gnnpipe, run


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def records(run_folder: Path) -> list[dict]:
    return [json.loads(line) for line in (run_folder / "records.jsonl").read_text().splitlines()]


def test_help_comes_at_once(tmp_path: Path) -> None:
    """Within a second of a core's time; other processes may be using the core."""
    for arguments in [["--help"], *([name, "--help"] for name in COMMANDS)]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = gnnpipe(*arguments, cwd=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: gnnpipe")
        for line in done.stdout.splitlines():  # an example stands alone
            assert line.count("gnnpipe ") <= 1 or not line.startswith("Example"), line
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


FLAGS = (
    "dataset root split model layers hidden dropout stages parts part-balance halo chunks epochs lr "
    "weight-decay staleness.preset seed device threads eval-every check-gradient out config "
    "synthetic.num_nodes synthetic.reach staleness.gradient staleness.freeze staleness.weight "
    "staleness.refresh staleness.lookahead optimizer.betas optimizer.warmup"
)


def test_every_flag_is_explained(tmp_path: Path) -> None:
    text = gnnpipe("train", "--help", "all", cwd=tmp_path).stdout
    for flag in FLAGS.split():
        assert is_explained(flag, text), flag


def is_explained(flag: str, text: str) -> bool:
    after = text.partition(f"\n  --{flag} ")[2]
    return len(after.split("\n  --", 1)[0].split()) > 4


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_explains_the_usual_flags_and_names_the_others(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = (train.USUAL if command == "train" else compare.USUAL) + ("config",)
    texts = []
    for asked in (["--help"], ["-h"], ["--layers", "3", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main([command, *asked])
        assert ended.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts == texts[:1] * 3
    text, _, others = texts[0].partition(f"gnnpipe {command} --help all explains these too:\n")
    assert len(usual) <= 17
    for flag in (*FLAGS.split(), *usual):
        assert bool(re.search(rf"\n  --{flag}[ ,\n]", text)) == (flag in usual), flag
        section = flag.partition(".")[0] + ".*" if "." in flag else flag
        assert flag in usual or f"--{section}" in others.split(), flag
    assert all(len(line) <= 110 for line in text.splitlines() + others.splitlines())


EARLY = {
    "train --layers 4 --stages 8": "stages: 8 stages can't share 4 layers; use --stages 4 or fewer",
    "train --layers 4 --dataset Cora --stages 8": "stages: 8 stages can't share 4 layers",
    "train --chunks 20000": "chunks: 20000 does not fit a graph of 10000 nodes; use 1 to 10000",
    "train --parts 20000": "parts: 20000 parts of a graph of 10000 nodes would leave some empty",
    "train --parts 2 --halo stale --staleness.lookahead exact": "halo: stale contradicts",
    "train --reversible": "reversible: gcnii has no such blocks; use --model resgcn or gen",
    "train --model gen --groups 4": "groups: 4 says nothing without --reversible",
    "train --model gen --reversible --layers 33": "layers: 33 can't be shared by 2 groups of reversible",
    "train --model gen --reversible --groups 3 --layers 6": "hidden: 64 can't be shared by 3 groups",
    "train --model resgcn --reversible --norm batch": "norm: batch can't be had with --reversible, as its",
    "train --model resgcn --reversible --residual linear": "residual: linear can't be had with --reversible",
    "train --model resgcn --reversible --jk sum": "jk: sum can't be had with --reversible, as rows of all",
    "train --model resgcn --reversible --halo stale": "halo: stale can't be had with --reversible",
    "train --synthetic.homophily 2": "synthetic.homophily: 2.0 is out of range; use 0 to 1",
    "train --hardware a500": "hardware: 'a500' is not known; did you mean 'a5000x8'? Use one of",
    "train --model gncii": "model: 'gncii' is not known; did you mean 'gcnii'? Choose one of",
    "train --out mine": "out: 'mine' exists already; choose another --out or add --overwrite",
    "train --resume nowhere": "resume: 'nowhere' holds no run",
    "compare --plans 8x1 1x1 --layers 4": "stages: 8 stages can't share 4 layers",
    "compare --plans 1x2+stal 2x1": "'1x2+stal' is no plan; did you mean 'stale'? Write stages x parts",
    "compare mine nowhere": "runs: 'mine' is no run (config.yaml is absent)",
    "show nowhere": "run: 'nowhere' is no run (config.yaml is absent)",
}


def test_what_needs_no_graph_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    """Which takes seconds."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    code = f"""
import sys
from gnnpipe.cli.main import main
for command in {list(EARLY)!r}:
    assert main(command.split()) == 2, command
assert "torch" not in sys.modules
"""
    done = run([sys.executable, "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    for line, message in zip(done.stderr.splitlines(), EARLY.values(), strict=True):
        assert line.startswith("gnnpipe: error: ")
        assert message in line


@pytest.mark.parametrize(
    "command", [text for text in EARLY if text.startswith("train") and "Cora" not in text]
)
def test_it_would_be_said_later_too(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same, to the letter: an early check only finds it sooner."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    monkeypatch.setattr("gnnpipe.run.session.warm_up", lambda *_: None)
    assert main(command.split()) == 2
    early = capsys.readouterr().err
    monkeypatch.setattr("gnnpipe.cli.train.check_early", lambda _: None)
    assert main(command.split()) == 2
    assert capsys.readouterr().err == early


@pytest.mark.slow
def test_stages_train_alike_and_leave_a_run(tmp_path: Path) -> None:
    for stages in ("1", "2"):
        done = gnnpipe(
            "train", *SMALL, "--stages", stages, "--chunks", "5", "--threads", "1", "--out", f"s{stages}",
            "--optimizer.clip", "0.5", "--optimizer.schedule", "cosine", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "test accuracy at best validation" in done.stdout
        assert "epoch 6/6" in done.stdout
    one, two = records(tmp_path / "s1"), records(tmp_path / "s2")
    keys = ("epoch", "loss", "lr", "train", "val", "test")
    assert [[r.get(k) for k in keys] for r in one] == [[r.get(k) for k in keys] for r in two]
    weights_one, weights_two = (load_file(tmp_path / s / "model.safetensors") for s in ("s1", "s2"))
    assert list(weights_one) == list(weights_two)
    assert {"input.weight", "layers.3.weight", "output.bias"} <= weights_one.keys()
    assert all((weights_one[name] == weights_two[name]).all() for name in weights_one)

    assert {p.name for p in (tmp_path / "s2").iterdir()} == {
        "config.yaml", "plan.json", "records.jsonl", "summary.json", "model.safetensors", ".lock",
            "classes.csv", "confusion.csv",
    }  # fmt: skip
    summary, plan = read(tmp_path / "s2" / "summary.json"), read(tmp_path / "s2" / "plan.json")
    between_stages = pipeline_bytes([16], 600, 2)
    assert summary["bytes_per_epoch"] == {
        "communication-layer": between_stages,
        "communication-graph": 0,
        "weights": 0,
    }
    assert plan["predictions"]["volume"]["communication_layer"] == between_stages
    assert len(summary["peak_memory_bytes"]) == 2
    best = max((r for r in two if "val" in r), key=lambda r: r["val"])
    assert (summary["best_val"], summary["test_at_best_val"]) == (best["val"], best["test"])
    for record in two:
        for rank in record["ranks"]:
            assert rank["compute"] > 0
            assert min(rank.values()) >= 0
            assert sum(rank.values()) == pytest.approx(record["seconds"], rel=0.05)


@pytest.mark.slow
def test_recomputed_initial_rows_train_alike(tmp_path: Path) -> None:
    """Shared weights count once in the norm that clips, and are saved once."""
    for name, flags in (("relay", ["--stages", "1"]), ("recompute", ["--stages", "2"])):
        done = gnnpipe(
            "train", *SMALL, *flags, "--initial", name, "--chunks", "5", "--threads", "1", "--out", name,
            "--optimizer.clip", "0.5", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (
        "rows travel between stages as fp32; initial rows, if the model has them, are computed" in done.stdout
    )
    one, two = records(tmp_path / "relay"), records(tmp_path / "recompute")
    # weights' gradients are sums in another order, and six steps of Adam amplify that
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], rel=1e-3)
    assert load_file(tmp_path / "recompute" / "model.safetensors").keys() == (
        load_file(tmp_path / "relay" / "model.safetensors").keys()
    )
    summary, plan = read(tmp_path / "recompute" / "summary.json"), read(tmp_path / "recompute" / "plan.json")
    volume = plan["predictions"]["volume"]
    assert summary["bytes_per_epoch"] == {
        "communication-layer": pipeline_bytes([16], 600),
        "communication-graph": 0,
        "weights": volume["weights"],
    }
    assert volume["weights"] > 0


@pytest.mark.slow
def test_parts_are_strips_of_a_line(tmp_path: Path) -> None:
    """Two parts and two stages, chunk by chunk, against one chunk in one process."""
    flags = (
        "train", *SMALL, "--synthetic.num_nodes", "16000", "--synthetic.blocks_per_class", "5",
        "--synthetic.reach", "1", "--threads", "1", "--optimizer.betas", "[0.9,0.999]",
    )  # fmt: skip
    split = gnnpipe(
        *flags,
        *["--stages", "2", "--parts", "2", "--chunks", "8", "--staleness.lookahead", "exact", "--out", "a"],
        cwd=tmp_path,
    )
    one = gnnpipe(*flags, *["--staleness", "exact", "--chunks", "1", "--out", "b"], cwd=tmp_path)
    assert split.returncode == one.returncode == 0, split.stderr + one.stderr
    assert "2 parts (strips of one line, " in split.stdout
    assert "100.0% of the messages fresh" in split.stdout
    ours, reference = ([record["loss"] for record in records(tmp_path / run)] for run in "ab")
    assert ours == pytest.approx(reference, rel=1e-5)  # float32 sums in another order


@pytest.mark.slow
def test_exact_lookahead_says_so_and_is_exact(tmp_path: Path) -> None:
    done = gnnpipe(
        "train", *SMALL, "--synthetic.num_nodes", "4000", "--synthetic.blocks_per_class", "5",
        "--synthetic.reach", "1", "--stages", "2", "--staleness.lookahead", "exact", "--check-gradient", "2",
        "--threads", "1", "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "exact training with lookahead 1 over " in done.stdout
    assert "x as fast as one chunk, by simulation" in done.stdout
    assert "100.0% of the messages fresh, looking 1 chunk ahead" in done.stdout
    assert "gradient against the exact one: cosine 1.000, relative error 0.00" in done.stdout
    for record in records(tmp_path / "run"):
        assert record["fresh"] == [1.0] * 4
        assert record["age"] == [0.0] * 4
        if "estimate" in record:
            assert record["exact_loss"] == pytest.approx(record["loss"], rel=1e-6)
            assert record["estimate"]["all"]["relative_error"] < 1e-5


@pytest.mark.slow
def test_refresh_shares_the_sweep_of_an_evaluation(tmp_path: Path) -> None:
    """Bytes of a refresh are its own kind; an evaluation of the same weights saves them."""
    sent = {}
    for averaging in ("0.0", "0.9"):
        done = gnnpipe(
            "train", *SMALL, "--stages", "2", "--chunks", "5", "--staleness.refresh", "3", "--check-gradient",
            "2", "--optimizer.averaging", averaging, "--threads", "1", "--out", averaging, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = records(tmp_path / averaging)
        sent[averaging] = [record["bytes_sent"]["refresh"] for record in found]
        assert [record["age"][3] for record in found][3] < found[2]["age"][3]
        assert [epoch for epoch, record in enumerate(found) if "table_error" in record] == [3]
        assert 0 < found[3]["table_error"]["all"] < 2
        assert all(0 < found[epoch]["estimate"]["all"]["relative_error"] < 2 for epoch in (1, 3, 5))
    # epoch 0 has no evaluation before it; epoch 3 does
    assert sent["0.9"] == [sent["0.9"][0], 0, 0, sent["0.9"][0], 0, 0]
    assert sent["0.0"] == [sent["0.9"][0], 0, 0, 0, 0, 0]
    assert [r["loss"] for r in records(tmp_path / "0.0")] == [r["loss"] for r in records(tmp_path / "0.9")]
    picture = gnnpipe("show", "0.0", cwd=tmp_path)
    assert "picture: 0.0/report.png" in picture.stdout
    assert (tmp_path / "0.0" / "report.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages, made once; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("finished")
    done = gnnpipe("train", *SMALL, "--stages", "2", "--chunks", "5", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.slow
def test_config_of_a_run_runs_it_again(tmp_path: Path, finished: Path) -> None:
    again = gnnpipe("train", "--config", str(finished / "config.yaml"), "--out", "two", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [r["loss"] for r in records(finished)] == [r["loss"] for r in records(tmp_path / "two")]
    written = [yaml.safe_load((run / "config.yaml").read_text()) for run in (finished, tmp_path / "two")]
    assert written[0] == written[1]


@pytest.mark.slow
def test_torchrun(tmp_path: Path, finished: Path) -> None:
    command = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "gnnpipe", "train", *SMALL]
    done = run([*command, "--stages", "2", "--chunks", "5", "--out", "t"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [r["loss"] for r in records(tmp_path / "t")] == [r["loss"] for r in records(finished)]
    assert done.stdout.count("test accuracy at best validation") == 1


@pytest.mark.slow
def test_torchrun_with_another_number_of_processes(tmp_path: Path) -> None:
    command = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "gnnpipe", "train", *SMALL]
    done = run([*command, "--stages", "3", "--out", "t"], tmp_path)
    assert done.returncode != 0
    assert (
        "stages (3) x parts (1) = 3 ranks, but 2 processes were started; use --nproc-per-node 3"
        in done.stderr
    )
    assert not (tmp_path / "t").exists()


@pytest.mark.slow
def test_torchrun_tells_every_rank_of_bad_data(tmp_path: Path) -> None:
    command = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "gnnpipe", "train", "--stages", "2"]
    done = run([*command, *SMALL, "--chunks", "601", "--out", "t"], tmp_path, timeout=60)
    assert done.returncode != 0
    assert done.stderr.count("gnnpipe: error: chunks: 601 does not fit a graph of 600 nodes") == 1
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "Coar"], "dataset: 'Coar' is not known"),
        (["--model", "gncii"], "model: 'gncii' is not known"),
        (["--chnks", "4"], "--chnks is not known; did you mean '--chunks'?"),
        (["--stages", "5"], "stages: 5 stages can't share 4 layers"),
        (["--chunks", "0"], "chunks: 0 does not fit a graph of 600 nodes; use 1 to 600"),
        (["--chunks", "601"], "chunks: 601 does not fit a graph of 600 nodes"),
        (["--device", "cuda"], "device: cuda needs a CUDA device, but PyTorch sees none"),
        (["--synthetic.homophily", "2"], "synthetic.homophily: 2.0 is out of range; use 0 to 1"),
        (["--metric", "f1"], "metric: 'f1' does not fit multiclass labels"),
        (["--config", "absent.yaml"], "config: 'absent.yaml' can't be read (No such file or directory)"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, which has imported what takes seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gnnpipe.run.session.warm_up", lambda *_: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["train", *SMALL, *arguments, "--out", "run"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gnnpipe: error: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_found_after_loading(tmp_path: Path) -> None:
    done = gnnpipe("train", *SMALL, "--metric", "f1", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("gnnpipe: error: metric: 'f1' does not fit multiclass labels")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_existing_run(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    before = (tmp_path / "run" / "records.jsonl").read_text()
    refused = gnnpipe("train", *SMALL, "--out", "run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "out: 'run' exists already; choose another --out or add --overwrite" in refused.stderr
    assert (tmp_path / "run" / "records.jsonl").read_text() == before
    replaced = gnnpipe("train", *SMALL, "--epochs", "2", "--out", "run", "--overwrite", cwd=tmp_path)
    assert replaced.returncode == 0
    assert len(records(tmp_path / "run")) == 2


@pytest.mark.slow
def test_too_little_memory_is_a_warning(tmp_path: Path) -> None:
    """A hundred terabytes of hidden rows, foreseen from the plan; stopped before the ranks try."""
    with start("train", *SMALL, "--hidden", "10000000", "--out", "run", cwd=tmp_path) as process:
        line = next(line for line in process.stdout if line.startswith("warning"))  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert "this run needs about" in line
    assert "are free on this host; lower --hidden or --layers" in line


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start ``gnnpipe`` as a terminal would: in a process group of its own."""
    return subprocess.Popen(
        [str(BIN / "gnnpipe"), *arguments], cwd=cwd, env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_epochs(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if (folder / "records.jsonl").exists() and len(records(folder)) >= number:
            return
        time.sleep(0.1)
    raise AssertionError(f"no {number} epochs within three minutes")


def rank_process(parent: int, rank: int) -> psutil.Process:
    """The process of a rank, which the launcher starts in order."""
    ranks = [p for p in psutil.Process(parent).children(recursive=True) if p.ppid() != parent]
    return sorted(ranks, key=lambda process: (process.create_time(), process.pid))[rank]


@pytest.mark.slow
def test_interruption_ends_all_ranks_and_says_what_was_saved(tmp_path: Path) -> None:
    arguments = ["train", *SMALL, "--epochs", "100000", "--eval-every", "1", "--stages", "2", "--out", "run"]
    with start(*arguments, cwd=tmp_path) as process:
        wait_for_epochs(tmp_path / "run", 3)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; saved in run: " in errors
    assert "the best weights so far in model.safetensors" in errors
    assert "Traceback" not in errors
    psutil.wait_procs(children, timeout=10)
    assert not [child for child in children if child.is_running()]
    assert len(records(tmp_path / "run")) >= 3


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_run(tmp_path: Path) -> None:
    arguments = ["train", *SMALL, "--epochs", "100000", "--stages", "2", "--out", "run", "--timeout", "30"]
    with start(*arguments, cwd=tmp_path) as process:
        wait_for_epochs(tmp_path / "run", 3)
        rank_process(process.pid, 1).kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "rank 1 failed first: it ended without a word" in errors
    assert "interrupted" not in errors
    assert len(records(tmp_path / "run")) >= 3


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    arguments = ["--lr", "1e30", "--model", "gcn", "--layers", "2", "--epochs", "20", "--stages", "2"]
    done = gnnpipe("train", *SMALL, *arguments, "--out", "run", cwd=tmp_path)
    assert done.returncode == 1
    assert "gnnpipe: error: the loss became" in done.stderr
    assert "use a lower --lr" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_show(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    shown = gnnpipe("show", "run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "graph parallelism on 2 devices would send" in shown.stdout
    assert (tmp_path / "run" / "report.png").stat().st_size > 10_000
    as_json = gnnpipe("show", "run", "--json", cwd=tmp_path)
    assert json.loads(as_json.stdout) == read(tmp_path / "run" / "summary.json")
    absent = gnnpipe("show", "nowhere", cwd=tmp_path)
    assert absent.returncode == 2
    assert "run: 'nowhere' is no run" in absent.stderr
