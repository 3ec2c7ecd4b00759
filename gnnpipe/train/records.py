"""What a run leaves behind in its folder."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from safetensors.torch import save_file
from torch import Tensor

from gnnpipe.base.config import RunConfig
from gnnpipe.base.errors import CheckpointError, ConfigError, DataError
from gnnpipe.train.lock import LOCK, OWNER
from gnnpipe.train.progress import is_record
from gnnpipe.train.resume import is_resumed, shape_of

CONFIG, PLAN, RECORDS, SUMMARY, MODEL = (
    "config.yaml",
    "plan.json",
    "records.jsonl",
    "summary.json",
    "model.safetensors",
)
PICTURE, COMPARISON = "report.png", "comparison.png"
PART, NOTHING_SAVED = ".part", "nothing was saved yet"
CHECKPOINTS = "checkpoints"
RUN_FILES = {CONFIG, PLAN, RECORDS, SUMMARY, MODEL, PICTURE, COMPARISON, CHECKPOINTS, LOCK, OWNER}
# Settings that change nothing about what comes out.
OPERATION = {
    "timeout", "checkpoint_every", "keep_checkpoints", "max_restarts", "on_nonfinite", "on_write_error",
}  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    config.yaml        everything resolved; ``gnnpipe train --config`` runs it again
    plan.json          stages, parts, chunks, layer ranges, the cut's quality, predictions
    records.jsonl      one line an epoch
    summary.json       what came out
    model.safetensors  the best weights so far, by global layer number
    checkpoints/       all that the run needs to go on, after some of its epochs; .lock: held while it runs
    """

    path: Path

    @classmethod
    def for_config(cls, config: RunConfig) -> RunFolder:
        """The folder that a config names, or a new one under runs/; nothing is made yet.

        Raises:
            ConfigError: it exists and ``overwrite`` is not set, it holds anything but a run, or no folder can
                be made there.
        """
        folder = cls(Path(config.out) if config.out else _new_name(config))
        folder._check(config.overwrite)
        return folder

    def create(self, config: RunConfig, plan: dict[str, Any]) -> None:
        """Make the folder, with the config and the plan in it; with ``overwrite`` in an old run's place.

        Raises:
            ConfigError: as `for_config`, if that has changed since.
        """
        self._check(config.overwrite)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._clear()
            with (self.path / CONFIG).open("x") as file:  # whoever makes this file owns the folder
                yaml.safe_dump(config_as_yaml(config), file, sort_keys=False)
        except FileExistsError:
            raise ConfigError(
                f"out: another run has just taken '{self.path}'; choose another --out"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"out: can't make '{self.path}' ({error.strerror}); choose another --out"
            ) from None
        _write_json(self.path / PLAN, plan)
        (self.path / RECORDS).touch()

    def rewind(self, config: RunConfig, plan: dict[str, Any], epochs: int, model: Path) -> int:
        """Bring the folder back to where it was after so many epochs, for a run that goes on from there.

        Args:
            config: of the run that goes on.
            plan: of it, see `create`; what earlier plans ran is added.
            epochs: that are done.
            model: the best weights of those epochs; if there is no such file, there were none yet.

        Returns:
            the epoch from which the plan is the one that goes on.

        Raises:
            CheckpointError: there are fewer records than that.
            OSError: something can't be written.
        """
        records = self.records()[:epochs]
        if len(records) < epochs:
            raise CheckpointError(
                f"resume: '{self.path / RECORDS}' has {len(records)} epochs, but the checkpoint {epochs}; "
                "bring the file back, or start the run anew"
            )
        for number, record in enumerate(records):
            if not is_record(record, number):
                raise CheckpointError(
                    f"resume: line {number + 1} of '{self.path / RECORDS}' is not that epoch's; bring the "
                    "file back, or start the run anew"
                )
        before = self.plan()
        plan["resumed"] = [*before.get("resumed", []), {"epoch": epochs, "from": shape_of(before)}]
        since = max((item["epoch"] for item in plan["resumed"] if item["from"] != shape_of(plan)), default=0)
        for name in (SUMMARY, PICTURE, COMPARISON):
            (self.path / name).unlink(missing_ok=True)
        text = "".join(_line(record) for record in records)
        _write_aside(self.path / RECORDS, lambda aside: aside.write_text(text))
        if model.is_file():
            _write_aside(self.path / MODEL, lambda aside: shutil.copyfile(model, aside))
        else:
            (self.path / MODEL).unlink(missing_ok=True)
        _write_json(self.path / PLAN, plan)
        settings = yaml.safe_dump(config_as_yaml(config), sort_keys=False)
        _write_aside(self.path / CONFIG, lambda aside: aside.write_text(settings))
        return int(since)

    def _clear(self) -> None:
        """Remove an old run, but for the lock that keeps the folder ours."""
        for old in self.path.iterdir():
            if old.name == CHECKPOINTS:
                shutil.rmtree(old)
            elif old.name not in (LOCK, OWNER):
                old.unlink()

    def _check(self, overwrite: bool) -> None:
        """Refuse what is not ours to replace, and places where nothing can be written."""
        path = self.path
        if path.exists() and not path.is_dir():
            raise ConfigError(f"out: '{path}' is a file; name a folder")
        parent = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ConfigError(
                f"out: '{path}' can't be made, as '{parent}' is no folder that may be written to"
            )
        found = {item.name for item in path.iterdir()} - {LOCK, OWNER} if path.exists() else set()
        if found and not overwrite:
            raise ConfigError(f"out: '{path}' exists already; choose another --out or add --overwrite")
        foreign = sorted(name for name in found if name.removesuffix(PART) not in RUN_FILES)
        if foreign or (found and not {CONFIG, RECORDS} <= found):
            what = f"'{foreign[0]}' is not a run's" if foreign else f"{CONFIG} or {RECORDS} is absent"
            raise ConfigError(
                f"out: '{path}' is not just a run ({what}), so it is not replaced; choose another"
            )

    def append(self, record: dict[str, Any]) -> None:
        """Add an epoch's line, whole or not at all; the system has it when this returns."""
        with (self.path / RECORDS).open("r+b") as file:  # a file that is gone is not begun anew
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(_line(record).encode())
                file.flush()
            except OSError:
                file.truncate(end)
                raise

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json whole or not at all."""
        _write_json(self.path / SUMMARY, summary)

    def write_model(self, weights: dict[str, Tensor]) -> None:
        """Write model.safetensors whole or not at all."""
        _write_aside(self.path / MODEL, lambda aside: save_file(weights, aside))

    def read(self, name: str) -> dict[str, Any]:
        """Read plan.json or summary.json; raises DataError where that is damaged."""
        try:
            return _parsed((self.path / name).read_text())
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(name, error) from None

    def plan(self) -> dict[str, Any]:
        """Read plan.json.

        Raises:
            ConfigError: it is not there, or damaged.
        """
        try:
            content = self.read(PLAN)
            items = content.get("resumed", [])
            if (
                isinstance(content.get("plan"), dict)
                and isinstance(items, list)
                and all(map(is_resumed, items))
            ):
                return content
            raise DataError("it names no plan")
        except (OSError, DataError) as error:
            raise ConfigError(
                f"resume: '{self.path / PLAN}' can't be read ({error}); bring the file back, or start "
                "the run anew"
            ) from None

    def state(self, config: RunConfig) -> Literal["absent", "begun", "finished"]:
        """How much of the run that ``config`` asks for is there.

        Raises:
            ConfigError: the folder holds a run with other settings, and ``overwrite`` is not set.
        """
        if config.overwrite or not (self.path / CONFIG).exists():
            return "absent"
        found = self.settings()
        for key, value in config_as_yaml(config).items():
            if key not in OPERATION and found.get(key) != value:
                keep = "" if isinstance(value, dict) else f", give --{key.replace('_', '-')} {found.get(key)}"
                raise ConfigError(
                    f"out: '{self.path}' holds a run with {key} {found.get(key)}, not {value}; choose "
                    f"another --out{keep}, or add --overwrite to run it again"
                )
        return "finished" if (self.path / SUMMARY).exists() else "begun"

    def settings(self) -> dict[str, Any]:
        """Read config.yaml; raises DataError where that is damaged."""
        try:
            return dict(yaml.safe_load((self.path / CONFIG).read_text()) or {})
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            raise self._damaged(CONFIG, error) from None

    def records(self) -> list[dict[str, Any]]:
        """All complete lines of records.jsonl; raises DataError where one is damaged."""
        try:
            lines = (self.path / RECORDS).read_text().split("\n")
            return [_parsed(line) for line in lines[:-1]]
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(RECORDS, error) from None

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(f"'{self.path / name}' is damaged ({error}); bring it back, or run it anew")

    def saved(self) -> str:
        """One line that says what is there, for a run that was interrupted."""
        records = self.records() if (self.path / RECORDS).exists() else []
        if not records and not (self.path / MODEL).exists():
            return NOTHING_SAVED
        parts = [f"{len(records)} epochs in {RECORDS}"]
        if (self.path / MODEL).exists():
            parts.append(f"the best weights so far in {MODEL}")
        found = f"saved in {self.path}: {', '.join(parts)}"
        kept = sorted(path.name for path in (self.path / CHECKPOINTS).glob("epoch-*") if path.suffix != PART)
        if not kept:
            return f"{found}; no checkpoint, so --resume can't go on"
        return f"{found}; gnnpipe train --resume {self.path} goes on from epoch {int(kept[-1][6:])}"


def _new_name(config: RunConfig) -> Path:
    """runs/DATE-DATASET-MODEL, with a number behind it where several runs start in one second."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{config.dataset.lower()}-{config.model}"
    names = (Path("runs") / (name if count == 1 else f"{name}-{count}") for count in itertools.count(1))
    return next(path for path in names if not path.exists())


def config_as_yaml(config: RunConfig) -> dict[str, Any]:
    """A config as ``--config`` reads it; where the run was kept is not part of it."""
    values = asdict(config)
    for key in ("out", "overwrite", "resume"):
        del values[key]
    values["optimizer"]["betas"] = list(values["optimizer"]["betas"])
    return values


def _parsed(text: str) -> dict[str, Any]:
    """JSON as it is written here: an object, without NaN."""

    def refuse(word: str) -> float:
        raise ValueError(f"{word} is no number")

    return dict(json.loads(text, parse_constant=refuse))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    _write_aside(path, lambda aside: aside.write_text(text))


def _write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Write under another name, then rename: readers see the whole file or the one before it."""
    aside = path.with_name(path.name + PART)
    write(aside)
    aside.replace(path)
