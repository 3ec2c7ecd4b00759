"""What a run leaves behind in its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

from gnnpipe.base.config import RunConfig
from gnnpipe.base.errors import ConfigError

CONFIG, PLAN, RECORDS, SUMMARY, MODEL = (
    "config.yaml",
    "plan.json",
    "records.jsonl",
    "summary.json",
    "model.safetensors",
)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    config.yaml        everything resolved; ``gnnpipe train --config`` runs it again
    plan.json          stages, chunks, layer ranges, the cut's quality, predictions
    records.jsonl      one line an epoch
    summary.json       what came out
    model.safetensors  the best weights so far, by global layer number
    """

    path: Path

    @classmethod
    def for_config(cls, config: RunConfig) -> RunFolder:
        """The folder that a config names, or a new one under runs/; nothing is made yet.

        Raises:
            ConfigError: it exists and ``overwrite`` is not set, or it is no run.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = Path(config.out or f"runs/{stamp}-{config.dataset.lower()}-{config.model}")
        if path.exists() and not path.is_dir():
            raise ConfigError(f"out: '{path}' is a file; name a folder")
        if path.is_dir() and any(path.iterdir()):
            if not config.overwrite:
                raise ConfigError(f"out: '{path}' exists already; choose another --out or add --overwrite")
            if not (path / CONFIG).exists():
                raise ConfigError(
                    f"out: '{path}' holds no run ({CONFIG} is absent), so it is not replaced; choose another"
                )
        return cls(path)

    def create(self, config: RunConfig, plan: dict[str, Any]) -> None:
        """Make the folder anew, with the config and the plan in it."""
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        (self.path / CONFIG).write_text(yaml.safe_dump(config_as_yaml(config), sort_keys=False))
        _write_json(self.path / PLAN, plan)
        (self.path / RECORDS).touch()

    def append(self, record: dict[str, Any]) -> None:
        """Add an epoch's line; it is on disk when this returns."""
        with (self.path / RECORDS).open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json whole or not at all."""
        _write_json(self.path / SUMMARY, summary)

    def write_model(self, weights: dict[str, Tensor]) -> None:
        """Write model.safetensors whole or not at all."""
        aside = self.path / f"{MODEL}.part"
        save_file(weights, aside)
        aside.replace(self.path / MODEL)

    def read(self, name: str) -> dict[str, Any]:
        """Read plan.json or summary.json."""
        return dict(json.loads((self.path / name).read_text()))

    def records(self) -> list[dict[str, Any]]:
        """All complete lines of records.jsonl."""
        lines = (self.path / RECORDS).read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def saved(self) -> str:
        """One line that says what is there, for a run that was interrupted."""
        if not (self.path / RECORDS).exists():
            return "nothing was saved yet"
        parts = [f"{len(self.records())} epochs in {RECORDS}"]
        if (self.path / MODEL).exists():
            parts.append(f"the best weights so far in {MODEL}")
        return f"saved in {self.path}: {', '.join(parts)}"


def config_as_yaml(config: RunConfig) -> dict[str, Any]:
    """A config as ``--config`` reads it; where the run was kept is not part of it."""
    values = asdict(config)
    for key in ("out", "overwrite"):
        del values[key]
    values["optimizer"]["betas"] = list(values["optimizer"]["betas"])
    return values


def _write_json(path: Path, content: dict[str, Any]) -> None:
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    aside.replace(path)
