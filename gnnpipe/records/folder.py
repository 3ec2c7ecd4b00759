"""The folder of a run: its files, read and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from gnnpipe.checkpoint.names import CHECKPOINTS, MODEL
from gnnpipe.config.catalog import IN_MEMORY
from gnnpipe.config.code.place import short_name
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import CheckpointError, ConfigError, DataError, shown
from gnnpipe.files.plain_yaml import dump_yaml
from gnnpipe.files.reading import Content, read_json, read_json_lines, read_yaml_text
from gnnpipe.files.typed_json import from_object, json_text, to_object
from gnnpipe.files.writing import append_text, copy_file, make_folder, remove, write_file, write_tensors
from gnnpipe.records.class_tables import class_table, confusion_table
from gnnpipe.records.plan_file import PlanFile, Resumption, StoredPlan
from gnnpipe.records.record import EpochRecord, Summary
from gnnpipe.records.taking import (
    AT_THE_END,
    CLASSES,
    CONFIG,
    CONFUSION,
    PLAN,
    RECORDS,
    SUMMARY,
    check_may_take,
    clear,
    launch_id,
    made,
    new_name,
)
from gnnpipe.system.failures import advice, reason

NOTHING_SAVED = "nothing was saved yet"
# Settings that do not change the results; a finished run counts as the one asked for whatever they are.
OPERATION = {
    "timeout", "checkpoint_every", "keep_checkpoints", "max_restarts", "on_nonfinite", "on_write_error",
    "cuda_graphs", "log",
}  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    config.yaml        everything resolved; ``gnnpipe train --config`` runs it again
    plan.json          stages, parts, chunks, layer ranges, the cut's quality, predictions
    records.jsonl      one line an epoch
    summary.json       results; there once all epochs are done
    classes.csv        precision, recall and F1 of each class in the best epoch; likewise
    confusion.csv      numbers of nodes by class and predicted class; likewise
    model.safetensors  the best weights so far, by global layer number
    logs/              what callbacks wrote, such as TensorBoard's event files
    checkpoints/       the state after some of the epochs, to go on from
    .lock              locked while the run goes on
    """

    path: Path
    launches: tuple[str, ...] = ()
    """Launches that the run belongs to, one for each host (see `launch_id`). By default this process's."""

    @classmethod
    def for_config(cls, config: RunConfig) -> RunFolder:
        """The folder that a config names, or a new name under runs/. Nothing is made yet.

        Raises:
            ConfigError: the folder exists and ``overwrite`` is not set, it holds anything but a run, or none
                can be made there.
        """
        folder = cls(Path(config.out) if config.out else new_name(config.data_name, short_name(config.model)))
        with folder._writing():
            check_may_take(folder.path, overwrite=config.overwrite)
        return folder

    def create(self, config: Resolved, plan: PlanFile) -> None:
        """Make the folder and write the config and the plan; with ``overwrite``, remove the run in it first.

        Raises:
            ConfigError: as `for_config`, if the folder was taken since.
        """
        with self._writing():
            check_may_take(self.path, overwrite=config.overwrite)
            make_folder(self.path, link=True)
            clear(self.path)
            self._write_plan(to_object(plan))
            write_file(self.path / CONFIG, dump_yaml(config_as_yaml(config)))
            write_file(self.path / RECORDS, "")
            made(self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an OSError into a ConfigError that says what to do."""
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"out: can't make or write '{self.path}' ({reason(error, str(self.path))}); {advice(error)}"
            ) from None

    def rewind(
        self, config: Resolved, plan: PlanFile | None, epochs: int, model: Path, *, over: bool = False
    ) -> int:
        """Bring the folder back to the state after ``epochs`` epochs; return `StoredPlan.since`.

        Kept lines and keys are not rewritten, so that those of a newer version survive.

        Args:
            config: of the run that goes on.
            plan: that it goes on by; None for the one it had. plan.json remembers the plans until now.
            epochs: number of epochs that stay.
            model: the best weights of those epochs; the file is absent if there were none yet.
            over: whether no epoch follows. Plan and settings then stay those of the epochs that ran.

        Raises:
            CheckpointError: there are fewer records than ``epochs``, or one is malformed.
            ConfigError: something can't be written.
        """
        lines = self.lines()[:epochs]
        if len(lines) < epochs:
            raise CheckpointError(
                f"resume: '{self.path / RECORDS}' has {len(lines)} epochs, but the checkpoint {epochs}; "
                "bring the file back, or start the run anew"
            )
        for number, line in enumerate(lines):
            self._check_line(line, number)
        over = over or epochs == config.epochs
        now = self.plan()
        content, settings = self.read(PLAN), config_as_yaml(config)
        if over:
            settings = {**self.settings(), "epochs": config.epochs, "patience": config.patience}
        else:
            resumed = (*now.resumed, Resumption(epochs, now.shape))
            now = replace(now, plan=plan.plan if plan else now.plan, resumed=resumed)
            content = (to_object(plan) if plan else content) | {"resumed": resumed}
        # If this is cut short it can be done again from the same checkpoint: no step needs what an earlier
        # one has removed, and the settings, which the next resume reads, change last.
        with self._writing():
            write_file(self.path / RECORDS, "".join(map(_line, lines)))
            if model.is_file():
                copy_file(model, self.path / MODEL)
            else:
                remove(self.path / MODEL)
            self._write_plan(content)
            for name in AT_THE_END:
                remove(self.path / name)
            write_file(self.path / CONFIG, dump_yaml(settings))
        return now.since(epochs if over else config.epochs)

    def _check_line(self, line: Content, epoch: int) -> None:
        """Raise CheckpointError unless ``line`` is the record of ``epoch``."""
        try:
            recorded = from_object(EpochRecord, line).epoch
            if recorded != epoch:
                raise ValueError(f"epoch: {recorded} should be {epoch}")
        except ValueError as error:
            raise CheckpointError(
                f"resume: line {epoch + 1} of '{self.path / RECORDS}' is not that epoch's "
                f"({shown(str(error))}); bring the file back, or start the run anew"
            ) from None

    def is_begun_by(self, launch: str, config: Resolved) -> bool:
        """Whether the folder holds a run with these settings that ``launch`` began."""
        try:
            return launch in self.stored_plan().launches and self.settings() == config_as_yaml(config)
        except DataError:
            return False

    def _write_plan(self, plan: Content) -> None:
        """Write plan.json, with the launches that the run belongs to now."""
        launches = sorted(set(self.launches or (launch_id(),)))
        _write_json(self.path / PLAN, plan | {"launches": launches})

    def append(self, record: EpochRecord) -> None:
        """Add an epoch's line, whole or not at all; it outlives this process from then on."""
        append_text(self.path / RECORDS, _line(record))

    def write_summary(self, summary: Summary, class_names: Sequence[str] = ()) -> None:
        """Write classes.csv and confusion.csv, if the run counts classes, and then summary.json, each whole
        or not at all."""
        classes = summary.best.classes
        if classes is not None:
            write_file(self.path / CLASSES, class_table(classes, class_names))
        if classes is not None and classes.confusion:
            write_file(self.path / CONFUSION, confusion_table(classes, class_names))
        _write_json(self.path / SUMMARY, summary)

    def write_model(self, weights: dict[str, Tensor], about: dict[str, str] | None = None) -> None:
        """Write model.safetensors with its metadata, whole or not at all."""
        write_tensors(self.path / MODEL, weights, {"format": "pt", **(about or {})})

    def read(self, name: str) -> Content:
        """Read plan.json or summary.json; raises DataError where that is damaged or absent."""
        with self._reading(name):
            return read_json(self.path / name)

    def summary(self) -> Summary:
        """Read summary.json; raises DataError where that is damaged or absent."""
        with self._reading(SUMMARY):
            return Summary.read(read_json(self.path / SUMMARY))

    def stored_plan(self) -> StoredPlan:
        """Read plan.json; raises DataError where that is damaged or absent."""
        with self._reading(PLAN):
            return from_object(StoredPlan, read_json(self.path / PLAN))

    def plan(self) -> StoredPlan:
        """As `stored_plan`, for a run that is to go on.

        Raises:
            ConfigError: plan.json is not there, or damaged.
        """
        try:
            return self.stored_plan()
        except DataError as error:
            raise ConfigError(
                f"resume: '{self.path / PLAN}' can't be read ({error}); bring the file back, or start "
                "the run anew"
            ) from None

    def state(self, config: Resolved) -> Literal["absent", "begun", "finished"]:
        """How much of the run that ``config`` asks for the folder holds.

        Raises:
            ConfigError: the folder holds a run with other settings, and ``overwrite`` is not set.
        """
        if config.overwrite or not (self.path / CONFIG).exists():
            return "absent"
        settings = self.settings()
        for key, value in config_as_yaml(config).items():
            if key not in OPERATION and settings.get(key) != value:
                old = shown(settings.get(key))
                keep = "" if isinstance(value, dict) else f", give --{key.replace('_', '-')} {old}"
                raise ConfigError(
                    f"out: '{self.path}' holds a run with {key} {old}, not {shown(value)}; choose "
                    f"another --out{keep}, or add --overwrite to run it again"
                )
        return "finished" if (self.path / SUMMARY).exists() else "begun"

    def settings(self) -> Content:
        """Read config.yaml; raises DataError where that is damaged or absent."""
        with self._reading(CONFIG):
            return read_yaml_text(self.path / CONFIG)[1]

    def records(self) -> list[EpochRecord]:
        """All complete lines of records.jsonl; raises DataError where one is damaged."""
        lines = self.lines()
        with self._reading(RECORDS):
            return [_record(line, number) for number, line in enumerate(lines, start=1)]

    def lines(self) -> list[Content]:
        """The complete lines of records.jsonl as they are, also what this version does not know."""
        with self._reading(RECORDS):
            return read_json_lines(self.path / RECORDS)

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        path = self.path / name
        try:
            yield
        except OSError as error:
            raise DataError(
                f"'{path}' can't be read ({reason(error, str(path))}); bring it back, or run it anew"
            ) from None
        except ValueError as error:
            raise DataError(
                f"'{path}' is damaged ({shown(str(error))}); bring it back, or run it anew"
            ) from None

    def saved(self) -> str:
        """What the folder of an interrupted run holds, and how to go on with it, in one line."""
        lines = self.lines() if (self.path / RECORDS).exists() else []
        if not lines and not (self.path / MODEL).exists():
            return NOTHING_SAVED
        parts = [f"{len(lines)} epochs in {RECORDS}"]
        if (self.path / MODEL).exists():
            parts.append(f"the best weights so far in {MODEL}")
        files = f"saved in {self.path}: {', '.join(parts)}"
        names = [path.name.removeprefix("epoch-") for path in (self.path / CHECKPOINTS).glob("epoch-*")]
        epochs = [int(name) for name in names if name.isdecimal()]
        if not epochs:
            return f"{files}; no checkpoint, so --resume can't go on"
        return f"{files}; {self._resuming()} goes on from epoch {max(epochs)}"

    def _resuming(self) -> str:
        """The command that goes on with the run; with a graph in memory, the call."""
        in_memory = (self.path / CONFIG).exists() and self.settings().get("dataset") == IN_MEMORY
        return f"gnnpipe.resume('{self.path}', data)" if in_memory else f"gnnpipe train --resume {self.path}"


def config_as_yaml(config: Resolved) -> Content:
    """A config as ``--config`` reads it, without the keys that name folders of its own making."""
    values = dict(sorted(asdict(config).items(), key=lambda item: isinstance(item[1], dict)))  # sections last
    for key in ("out", "overwrite", "resume", "cache"):
        del values[key]
    values["log"] = list(values["log"])
    values["model_options"] = list(values["model_options"])
    if not values["model_options"]:  # only models of one's own have any
        del values["model_options"]
    values["optimizer"]["betas"] = list(values["optimizer"]["betas"])
    if isinstance(config.class_weights, tuple):
        values["class_weights"] = list(config.class_weights)
    return values


def _record(line: Content, number: int) -> EpochRecord:
    try:
        return from_object(EpochRecord, line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def _line(record: EpochRecord | Content) -> str:
    return json_text(record) + "\n"


def _write_json(path: Path, content: Summary | Content) -> None:
    write_file(path, json_text(content, indent=2) + "\n")
