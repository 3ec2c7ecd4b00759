"""Runs' folders with checkpoints that no run has written, for what need not train."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from gnnpipe.checkpoint.storage import INDEX, About, StoredFile, checksum
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig
from gnnpipe.records.folder import RunFolder
from tests.made import plan_file, record

ABOUT = About(2, (1, 1, 1), None, refreshed=False)
PLAN = plan_file()


def run_folder(path: Path, *epochs: int, **changes: Any) -> RunFolder:
    """A run that has got as far as its last checkpoint."""
    config = check_config(replace(RunConfig(layers=2, hidden=8, epochs=100), **changes))
    folder = RunFolder(path)
    folder.create(config, PLAN)
    for epoch in range(max(epochs, default=0)):
        folder.append(record(epoch))
    for number in epochs:
        checkpoint(path, number)
    return folder


def checkpoint(folder: Path, epochs: int, **about: Any) -> Path:
    """One that is whole."""
    path = folder / "checkpoints" / f"epoch-{epochs:08d}"
    path.mkdir(parents=True)
    content = save({"weights.a": torch.ones(3)})
    (path / "rank-00000.safetensors").write_bytes(content)
    file = asdict(StoredFile(len(content), checksum(content)))
    index = {
        "about": replace(ABOUT, epochs=epochs).content() | about,
        "tensors": {"weights.a": "rank-00000.safetensors"},
        "files": {"rank-00000.safetensors": file},
    }
    write_index(path, index)
    return path


def write_index(path: Path, index: dict[str, Any]) -> None:
    """With its checksum in order."""
    text = json.dumps(index)
    (path / INDEX).write_text(json.dumps({"xxh3": checksum(text.encode()), "content": text}))


def damage(path: Path) -> None:
    """Flip a bit of a checkpoint's tensors; its size stays."""
    file = path / "rank-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
