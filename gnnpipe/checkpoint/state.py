"""What a run needs to go on where it was, and when that is written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from gnnpipe.checkpoint.names import CHECKPOINTS, MODEL
from gnnpipe.checkpoint.storage import About, Storage, StoredCheckpoint
from gnnpipe.checkpoint.tables import restore_tables, table_state
from gnnpipe.engine.optimizer import AveragedWeights
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import TableSettings
from gnnpipe.errors import CheckpointError
from gnnpipe.files.reading import LINK, read_bytes, tensor_file_metadata
from gnnpipe.files.writing import PART, remove
from gnnpipe.files.writing import remove_leftovers as remove_files_begun
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.schedule.plan import Plan

MODEL_BYTES = 64 << 30


@dataclass(frozen=True)
class RankState:
    """The parts of a rank that change from epoch to epoch."""

    stage: Stage
    optimizer: Optimizer
    averaged: AveragedWeights
    graph: PreparedGraph
    settings: TableSettings
    """Of the stage's tables."""

    def tensors(self, *, tables: bool) -> dict[str, Tensor]:
        """This rank's share of a checkpoint, as it is now.

        Args:
            tables: whether the next epoch reads rows of this one.
        """
        place = self.stage.place
        state = self._weights() if place.part == 0 else {}
        if tables:
            state |= table_state(self.stage, self.settings)
        if place.part == 0 and place.is_first:
            state["node_id"] = self.graph.node_id
        return state

    def about(self, plan: Plan, epochs: int, *, tables: bool, refreshed: bool) -> About:
        """What a checkpoint of now says of the run.

        Args:
            plan: of the run.
            epochs: that are done.
            tables: as for `tensors`.
            refreshed: whether an exact sweep has filled them for the next epoch already.
        """
        kept = {"clean": self.settings.clean, "stale_halo": self.settings.stale_halo}
        shape = plan.num_stages, plan.num_parts, plan.num_chunks
        return About(epochs, shape, kept if tables else None, refreshed)

    def restore(self, stored: StoredCheckpoint) -> None:
        """Take over weights, their averages and the optimiser's moments, which any plan can read.

        Raises:
            CheckpointError: another model wrote it.
        """
        averages: dict[str, Tensor] = {}
        for layer in self.stage.held_layers:
            for name, weight in layer.module.named_parameters():
                key = f"{layer.spec.name}.{name}"
                value = stored.read(f"weights.{key}")
                if value.shape != weight.shape:
                    raise CheckpointError(
                        f"'{stored.folder}' holds {key} of shape {list(value.shape)}, but the model's is "
                        f"{list(weight.shape)}"
                    )
                with torch.no_grad():
                    weight.copy_(value)
                moments = [
                    n for n in ("step", "exp_avg", "exp_avg_sq") if f"adam.{key}.{n}" in stored.tensors
                ]
                for moment in moments:
                    tensor = stored.read(f"adam.{key}.{moment}")
                    self.optimizer.state[weight][moment] = tensor.to(weight.device)
                if f"averaged.{key}" in stored.tensors:
                    inner = f"{layer.spec.name.replace('.', '_')}.{name}"
                    averages[inner] = stored.read(f"averaged.{key}")
        self.averaged.restore(averages, stored.about.epochs)

    def restore_tables(self, stored: StoredCheckpoint) -> bool:
        """Take over the tables, cut anew for this plan; False if they keep something else and must be made.

        Raises:
            CheckpointError: rows of a stale halo that are under way between other parts.
        """
        kept, (_, parts, chunks) = stored.about.tables, stored.about.plan
        if kept is None or kept["clean"] != self.settings.clean:
            return False
        if self.settings.stale_halo:
            same = kept["stale_halo"] and torch.equal(stored.read("node_id"), self.graph.node_id)
            if not same or (parts, chunks) != (len(self.graph.ranges), len(self.graph.ranges[0])):
                raise CheckpointError(
                    f"halo: stale goes on with rows that are under way between {parts} parts of {chunks} "
                    f"chunks; resume with --parts {parts} --chunks {chunks}, or with --halo exact"
                )
        restore_tables(self.stage, self.settings, self.graph, stored, parts)
        return True

    def _weights(self) -> dict[str, Tensor]:
        averages = self.averaged.state()
        state: dict[str, Tensor] = {}
        for layer in self.stage.layers:
            for name, weight in layer.module.named_parameters():
                key = f"{layer.spec.name}.{name}"
                state[f"weights.{key}"] = weight.detach()
                for moment, tensor in self.optimizer.state.get(weight, {}).items():
                    state[f"adam.{key}.{moment}"] = tensor.detach()
                if averages:
                    state[f"averaged.{key}"] = averages[f"{layer.spec.name.replace('.', '_')}.{name}"]
        return state


def write(storage: Storage, folder: Path, tensors: Mapping[str, Tensor], about: About) -> None:
    """Begin to write a checkpoint of a run, with a copy of its best weights so far and their score.

    Args:
        storage: takes it.
        folder: of the run.
        tensors: of this rank.
        about: the run, but for its best weights.
    """
    try:
        beside = {MODEL: read_bytes(folder / MODEL, MODEL_BYTES)} if storage.is_first else {}
    except OSError:
        beside = {}
    target = folder / CHECKPOINTS / f"epoch-{about.epochs:08d}"
    storage.begin(target, tensors, _with_best(about, beside.get(MODEL)), beside)


def _with_best(about: About, model: bytes | None) -> About:
    """With the score that a checkpoint may claim: that of the weights in it, as their own file has it.

    Better weights may have been found and not been written, for want of room.
    """
    if model is None:
        return about
    try:
        found = tensor_file_metadata(model)
        return replace(about, best={"epoch": int(found["best_epoch"]), "val": float(found["best_val"])})
    except (ValueError, KeyError):
        return replace(about, says_best=False)


def prune(folder: Path, keep: int, whole: set[Path]) -> None:
    """Remove all but the newest checkpoints of a run; damaged ones don't count, and go with the old ones.

    Args:
        folder: of the run.
        keep: how many whole ones stay.
        whole: those that are known to be; others that are looked at and found to be are added.
    """
    kept: list[Path] = []
    others: list[Path] = []
    for path in complete(folder):
        counts = len(kept) < keep and (path in whole or _is_whole(path))
        (kept if counts else others).append(path)
    whole.update(kept)
    for path in others if len(kept) == keep else []:
        with suppress(OSError):
            remove(path)


def _is_whole(path: Path) -> bool:
    try:
        StoredCheckpoint.open(path).verify()
    except CheckpointError:
        return False
    return True


def latest(folder: Path, say: Callable[[str], None]) -> StoredCheckpoint | None:
    """The newest checkpoint of a run that is whole; None if it has none at all.

    Args:
        folder: of the run.
        say: told about each one that is damaged.

    Raises:
        CheckpointError: there are some, but none is whole.
    """
    failure: CheckpointError | None = None
    for path in complete(folder):
        try:
            stored = StoredCheckpoint.open(path)
            stored.verify()
            return stored
        except CheckpointError as error:
            failure = failure or error
            say(f"{error}; looking for the checkpoint before it")
    if failure is not None:
        raise CheckpointError(f"{failure}, and no other checkpoint of '{folder}' is whole; start it anew")
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove checkpoints that were being written when a run ended."""
    with suppress(OSError):
        remove_files_begun(folder)
        for path in _kept(folder):
            if path.suffix == PART:
                remove(path)


def complete(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first; raises CheckpointError if they are kept behind a link."""
    found = [path for path in _kept(folder) if path.name.startswith("epoch-") and path.suffix != PART]
    return sorted((path for path in found if path.is_dir() and not path.is_symlink()), reverse=True)


def _kept(folder: Path) -> list[Path]:
    place = folder / CHECKPOINTS
    if place.is_symlink():
        raise CheckpointError(f"'{place}': {LINK}; put the folder itself there")
    try:
        return list(place.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CheckpointError(f"'{place}' can't be read ({error.strerror})") from None
