"""Files that are damaged or made by somebody else: an error of ours or a sound result, never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gnnpipe.checkpoint.state import latest
from gnnpipe.checkpoint.storage import INDEX, checksum
from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.config.checks import check_config
from gnnpipe.config.resume import check_resumed, stored_settings, with_stored_plan
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import GnnpipeError
from gnnpipe.planner.hardware import SHIPPED, load_hardware
from gnnpipe.records.folder import config_as_yaml
from gnnpipe.report.compare import compare
from gnnpipe.report.show import show
from gnnpipe.run.reporter import Quiet
from gnnpipe.run.resume import folder_of, start_of
from tests.faults.runs import SMALL, Run

ODD: list[Any] = [
    None, True, "", "x", "../../etc/passwd", "é" * 300, -1, 0, 1, 3, 1e308, float("nan"), float("inf"),
    10**30, [], {}, [1], {"a": 1}, [[[]]], "1e400", "!!python/object/apply:os.system ['true']",
]  # fmt: skip


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat or insert a little."""
    result = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(result) + 1)
        length = rng.choice([1, 1, 2, 8, 64])
        kind = rng.randrange(4)
        if kind == 0 and place < len(result):
            result[place] = rng.randrange(256)
        elif kind == 1:
            del result[place : place + length]
        elif kind == 2:
            result[place:place] = result[place : place + length]
        else:
            result[place:place] = rng.randbytes(length)
    return bytes(result)


def changed_values(content: Any, rng: random.Random) -> Any:
    """Put something odd in a few places, or take something away."""
    content = json.loads(json.dumps(content))
    for _ in range(rng.randint(1, 3)):
        where = content
        while isinstance(where, dict | list) and where:
            key = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
            if isinstance(where[key], dict | list) and where[key] and rng.random() < 0.8:
                where = where[key]
                continue
            if rng.random() < 0.2:
                del where[key]
            else:
                where[key] = rng.choice(ODD)
            break
    return content


def sound(do: Callable[[], Any]) -> None:
    """Anything but an error of ours fails the test."""
    with suppress(GnnpipeError):
        do()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Run.prepare(tmp_path_factory.mktemp("finished") / "run", stages=2).train().folder.path


PARSER = make_parser("train", RunConfig, "", "")


def read_config(path: Path) -> None:
    check_config(parse(PARSER, RunConfig, ["--config", str(path)]))


def read_run(path: Path) -> None:
    show(str(path), as_json=True)
    compare([path, path], as_json=True)


def go_on(path: Path) -> None:
    settings = stored_settings(path)
    assert isinstance(settings, dict)
    before = check_config(SMALL)
    config = replace(before, resume=str(path), epochs=100)
    check_resumed(config, before)
    folder = folder_of(config)
    with_stored_plan(config, before, folder.plan().plan.num_chunks)
    start = start_of(config, folder, Quiet())
    assert start
    folder.rewind(config, None, start.epochs, start.folder / "model.safetensors")


def fuzz(kind: str, seed: int, finished: Path, tmp_path: Path) -> None:
    rng = random.Random(f"{kind}{seed}")
    if kind == "config":
        path = tmp_path / "config.yaml"
        content = config_as_yaml(check_config(SMALL))
        text = yaml.safe_dump(changed_values(content, rng) if rng.random() < 0.5 else content).encode()
        path.write_bytes(text if rng.random() < 0.4 else changed_bytes(text, rng))
        sound(lambda: read_config(path))
    elif kind == "hardware":
        path = tmp_path / "hardware.json"
        text = json.dumps(changed_values(asdict(SHIPPED["h100"]), rng)).encode()
        path.write_bytes(text if rng.random() < 0.6 else changed_bytes(text, rng))
        sound(lambda: load_hardware(str(path)))
    elif kind == "run":
        folder = copied(finished, tmp_path)
        name = rng.choice(["config.yaml", "plan.json", "records.jsonl", "summary.json"])
        damage(folder / name, rng)
        sound(lambda: read_run(folder))
        sound(lambda: go_on(folder))
    else:
        folder = copied(finished, tmp_path)
        checkpoint = max((folder / "checkpoints").iterdir())
        if rng.random() < 0.5:
            path = rng.choice(sorted(checkpoint.iterdir()))
            path.write_bytes(changed_bytes(path.read_bytes(), rng))
        else:
            index = json.loads(json.loads((checkpoint / INDEX).read_text())["content"])
            text = json.dumps(changed_values(index, rng))
            whole = {"xxh3": checksum(text.encode()), "content": text}
            (checkpoint / INDEX).write_text(json.dumps(whole))
        sound(lambda: read_checkpoint(folder))


def read_checkpoint(folder: Path) -> None:
    stored = latest(folder, lambda _: None)
    assert stored
    for name in stored.tensors:
        stored.read(name)


def damage(path: Path, rng: random.Random) -> None:
    if rng.random() < 0.4 and path.suffix == ".json":
        path.write_text(json.dumps(changed_values(json.loads(path.read_text()), rng)))
    elif rng.random() < 0.4 and path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(changed_values(line, rng)) + "\n" for line in lines))
    else:
        path.write_bytes(changed_bytes(path.read_bytes(), rng))


def copied(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    if folder.exists():
        shutil.rmtree(folder)
    return Path(shutil.copytree(finished, folder))


CASES = {"config": 3000, "hardware": 3000, "run": 2000, "checkpoint": 2000}


@pytest.mark.parametrize("kind", CASES)
def test_some_damaged_files(
    kind: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(CASES[kind] // 40):
        fuzz(kind, seed, finished, tmp_path)
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_ten_thousand_damaged_files(
    kind: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(CASES[kind] // 40, CASES[kind]):
        fuzz(kind, seed, finished, tmp_path)
    capsys.readouterr()
