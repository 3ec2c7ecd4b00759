"""The state from which a run goes on where it was; writing, finding and removing its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
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
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.schedule.plan import Plan
from gnnpipe.system.steps import Say

MODEL_BYTES = 64 << 30


@dataclass(frozen=True)
class RankState:
    """The objects of a rank that change from epoch to epoch."""

    stage: Stage
    optimizer: Optimizer
    averaged: AveragedWeights
    graph: PreparedGraph
    settings: TableSettings
    """Settings of the stage's tables."""

    def tensors(self, *, tables: bool) -> dict[str, Tensor]:
        """This rank's tensors of a checkpoint, by name; not copies.

        Each tensor is written by one rank: weights by part 0 of the stage, table rows by the part that owns
        them, the order of rows by rank 0.

        Args:
            tables: whether the next epoch reads rows of this one.
        """
        place = self.stage.place
        state = self._weights() if place.part == 0 else {}
        if tables:
            state |= table_state(self.stage, self.settings, self.graph)
        if place.part == 0 and place.is_first:
            state["node_id"] = self.graph.node_id
        return state

    def about(self, plan: Plan, epochs: int, *, tables: bool, refreshed: bool) -> About:
        """The facts of the run that a checkpoint written now holds.

        Args:
            plan: plan of the run.
            epochs: number of epochs that are done.
            tables: as for `tensors`.
            refreshed: whether an exact sweep has already filled the tables for the next epoch.
        """
        kept = {"clean": self.settings.clean, "stale_halo": self.settings.stale_halo}
        shape = plan.num_stages, plan.num_parts, plan.num_chunks
        return About(epochs, shape, kept if tables else None, refreshed)

    def restore(self, stored: StoredCheckpoint) -> None:
        """Load weights, their averages and the optimiser's moments; stored by layer, they fit any plan.

        Raises:
            CheckpointError: it is another model's.
        """
        averages: dict[str, Tensor] = {}
        self._restore_buffers(stored)
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
                # before the first step there are no moments
                moments = [
                    n for n in ("step", "exp_avg", "exp_avg_sq") if f"adam.{key}.{n}" in stored.tensors
                ]
                for moment in moments:
                    tensor = stored.read(f"adam.{key}.{moment}")
                    self.optimizer.state[weight][moment] = tensor.to(weight.device)
                if f"averaged.{key}" in stored.tensors:
                    name_in_stage = f"{layer.spec.name.replace('.', '_')}.{name}"
                    averages[name_in_stage] = stored.read(f"averaged.{key}")
        self.averaged.restore(averages, stored.about.epochs)

    def _restore_buffers(self, stored: StoredCheckpoint) -> None:
        """Load what layers keep from epoch to epoch beside their weights, as statistics of batch norms."""
        for layer in self.stage.held_layers:
            for name, buffer in layer.module.named_buffers():
                key = f"buffers.{layer.spec.name}.{name}"
                if key in stored.tensors:
                    with torch.no_grad():
                        buffer.copy_(stored.read(key))

    def restore_tables(self, stored: StoredCheckpoint) -> bool:
        """Load the tables and re-slice them for this plan.

        Returns:
            False if the checkpoint holds no tables, or rows before dropout where this run wants them after it
            (or the reverse); the caller then refreshes.

        Raises:
            CheckpointError: the halo is stale, and the rows under way are those of other parts or chunks.
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
            for name, buffer in layer.module.named_buffers():
                state[f"buffers.{layer.spec.name}.{name}"] = buffer
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
        storage: writes the checkpoint.
        folder: folder of the run.
        tensors: tensors of this rank.
        about: facts of the run, without its best weights.
    """
    try:
        beside = {MODEL: read_bytes(folder / MODEL, MODEL_BYTES)} if storage.is_first else {}
    except OSError:
        beside = {}
    target = folder / CHECKPOINTS / f"epoch-{about.epochs:08d}"
    storage.begin(target, tensors, _with_best(about, beside.get(MODEL)), beside)


def _with_best(about: About, model: bytes | None) -> About:
    """``about`` with the score of the best weights that the checkpoint holds, read from their own file.

    The run may know of better ones, which a full disk kept from being written.
    """
    if model is None:
        return about
    try:
        metadata = tensor_file_metadata(model)
        return replace(about, best={"epoch": int(metadata["best_epoch"]), "val": float(metadata["best_val"])})
    except (ValueError, KeyError):
        return replace(about, says_best=False)


def prune(folder: Path, keep: int, whole: set[Path]) -> None:
    """Remove all but the newest checkpoints of a run.

    Damaged ones don't count among those that stay, and are removed with the old ones. As long as fewer than
    ``keep`` are whole, nothing is removed.

    Args:
        folder: folder of the run.
        keep: number of whole checkpoints that stay.
        whole: checkpoints known to be whole, which aren't read again; those found to be are added.
    """
    kept: list[Path] = []
    superfluous: list[Path] = []
    for path in complete(folder):
        counts = len(kept) < keep and (path in whole or _is_whole(path))
        (kept if counts else superfluous).append(path)
    whole.update(kept)
    for path in superfluous if len(kept) == keep else []:
        with suppress(OSError):
            remove(path)


def _is_whole(path: Path) -> bool:
    try:
        StoredCheckpoint.open(path).verify()
    except CheckpointError:
        return False
    return True


def latest(folder: Path, say: Say) -> StoredCheckpoint | None:
    """The newest checkpoint of a run that is whole; None if the run has no checkpoint.

    Args:
        folder: folder of the run.
        say: is told of each checkpoint that is damaged.

    Raises:
        CheckpointError: the run has checkpoints, but none is whole.
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
    """Remove checkpoints that were still being written when a run ended."""
    with suppress(OSError):
        remove_files_begun(folder)
        for path in _kept(folder):
            if path.suffix == PART:
                remove(path)


def complete(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first; raises CheckpointError if their folder is a link."""
    named = [path for path in _kept(folder) if path.name.startswith("epoch-") and path.suffix != PART]
    return sorted((path for path in named if path.is_dir() and not path.is_symlink()), reverse=True)


def _kept(folder: Path) -> list[Path]:
    """Everything in a run's folder of checkpoints, unfinished ones too."""
    checkpoints = folder / CHECKPOINTS
    # links are not followed: this one might lead out of the run's folder, and old checkpoints are removed
    if checkpoints.is_symlink():
        raise CheckpointError(f"'{checkpoints}': {LINK}; put the folder itself there")
    try:
        return list(checkpoints.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CheckpointError(f"'{checkpoints}' can't be read ({error.strerror})") from None
