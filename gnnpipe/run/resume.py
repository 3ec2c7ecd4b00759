"""The checkpoint that a run goes on from: after --resume, and when it restarts by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from gnnpipe.checkpoint.names import MODEL
from gnnpipe.checkpoint.state import complete, latest, remove_leftovers
from gnnpipe.checkpoint.storage import StoredCheckpoint
from gnnpipe.checkpoint.warm_start import weight_shapes
from gnnpipe.config.resolved import Resolved
from gnnpipe.errors import ConfigError, DataError, shown
from gnnpipe.nn.models import ModelSpec
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.patience import Patience
from gnnpipe.records.plan_file import GraphSize, PlanFile, StoredPlan
from gnnpipe.records.record import StoppedEarly
from gnnpipe.records.taking import CONFIG, SUMMARY, launch_id
from gnnpipe.run.job import Job, Start
from gnnpipe.run.reporter import Reporter


def restarted(job: Job, folder: RunFolder, reporter: Reporter) -> Job:
    """The same job from its last checkpoint, after its folder is brought back to that epoch."""
    stored = latest(folder.path, warn_with(reporter))
    start = _start(stored.folder, stored.about.epochs, job.config, folder) if stored else None
    epochs, model, over = (start.epochs, start.folder / MODEL, start.over) if start else (0, Path(), False)
    remove_leftovers(folder.path)
    since = folder.rewind(job.config, None, epochs, model, over=over)
    return replace(job, start=start and replace(start, plan_since=since))


def folder_of(config: Resolved) -> RunFolder:
    """The folder of a run: the one it goes on in, or the one that a new run will make."""
    return RunFolder(Path(config.resume)) if config.resume else RunFolder.for_config(config)


def start_of(config: Resolved, folder: RunFolder, reporter: Reporter) -> Start | None:
    """The checkpoint to go on from; None for a new run.

    Raises:
        ConfigError: there is no checkpoint to go on from, or nothing is left to do.
        CheckpointError: all checkpoints are damaged.
    """
    if not config.resume:
        return None
    stored = latest(folder.path, warn_with(reporter))
    if stored is None:
        weights = f"; --warm-start {folder.path} begins with its best weights"
        raise ConfigError(
            f"resume: '{folder.path}' has no checkpoint yet; start it anew with gnnpipe train --config "
            f"{folder.path / CONFIG}, and --checkpoint-every 10 to have one early"
            + (weights if (folder.path / MODEL).exists() else "")
        )
    epochs = stored.about.epochs
    # A run that was stopped between its last checkpoint and its summary has the summary left to write. That
    # needs a best epoch, and its weights.
    finished = (folder.path / SUMMARY).exists()
    if epochs > config.epochs or (epochs == config.epochs and finished):
        raise ConfigError(
            f"resume: all {epochs} epochs of '{folder.path}' are done; give more, as in --epochs {2 * epochs}"
        )
    stopped = _stopped_early(folder, epochs, config)
    if stopped and finished:
        raise ConfigError(
            f"resume: '{folder.path}' is finished after epoch {epochs}, as {stopped.reason}; to go on, give "
            f"more patience, as in --patience {2 * config.patience}, or --patience 0"
        )
    if epochs == config.epochs and not any(record.scores for record in folder.records()[:epochs]):
        raise ConfigError(
            f"epochs: none of the {epochs} that are done was evaluated, so there is no best one to name; "
            f"give more, as in --epochs {epochs + 1}"
        )
    if epochs == config.epochs and stored.about.says_best and stored.about.best is None:
        raise ConfigError(
            f"resume: all {epochs} epochs of '{folder.path}' are done, but their best weights could not be "
            f"written; give more, as in --epochs {2 * epochs}"
        )
    return _start(stored.folder, epochs, config, folder)


def _start(checkpoint: Path, epochs: int, config: Resolved, folder: RunFolder) -> Start:
    over = epochs == config.epochs or _stopped_early(folder, epochs, config) is not None
    return Start(checkpoint, epochs, over=over)


def _stopped_early(folder: RunFolder, epochs: int, config: Resolved) -> StoppedEarly | None:
    """Why a run ended with its first ``epochs`` epochs, by the patience that ``config`` has; None if it goes
    on."""
    if not config.patience or epochs >= config.epochs:
        return None
    patience, stopped = Patience(config.patience, folder.plan().metric), None
    for record in folder.records()[:epochs]:
        stopped = patience.add(record)
    return stopped


def check_same_graph(before: StoredPlan, plan: PlanFile) -> None:
    """Refuse another graph than the one that a run was trained on.

    Args:
        before: plan of the run so far.
        plan: plan for the graph that is given now.

    Raises:
        DataError: another number of nodes, edges, features, their entries or classes, another task, other
            values to be predicted, other edges, labels or masks, or other features in a graph folder.
    """
    for field in fields(GraphSize):
        # features may differ in their last bits between machines; weights are part of the content
        if field.name in ("content", "scaling", "weighted"):
            continue
        old, new = getattr(before.graph, field.name), getattr(plan.graph, field.name)
        if old != new and not (old is None and not new):  # older versions know nothing of values
            raise DataError(
                f"data: the run was trained on a graph with {field.name} {shown(old)}, and this one has "
                f"{new}; give the same graph"
            )
    for what, old, new in (
        ("edges, labels or splits", before.graph.content, plan.graph.content),
        ("features", before.features_checksum, plan.features_checksum),
    ):
        if old and new and old != new:  # older versions know nothing of it
            raise DataError(
                f"data: the run was trained on a graph of the same size with other {what}; give the same "
                "graph (was it imported anew?), or start a new run"
            )


def check_same_code(before: StoredPlan, spec: ModelSpec, stored: StoredCheckpoint) -> list[str]:
    """Lines for the user where the file of a model of one's own has changed.

    Args:
        before: plan of the run so far.
        spec: the model as its function makes it now.
        stored: checkpoint that the run goes on from.

    Raises:
        ConfigError: the checkpoint lacks a weight of the model, or has one more.
    """
    held = {name.removeprefix("weights.") for name in stored.tensors if name.startswith("weights.")}
    kept = {name.removeprefix("buffers.") for name in stored.tensors if name.startswith("buffers.")}
    now = set(weight_shapes(spec))  # with buffers, but for those that no weights file has
    other = min((held - now) | (now - held - kept), default=None)
    if other is not None:
        where = "the checkpoint has none" if other in now else "the model has none any more"
        raise ConfigError(
            f"model: '{shown(spec.model)}' makes other layers than those that the run was trained with "
            f"({other}: {where}); bring back the code of then, or begin a new run with --warm-start"
        )
    if not before.model_checksum or before.model_checksum == spec.checksum:
        return []
    return [
        f"the code of the model has changed since the run began ('{shown(spec.model)}'); the weights so "
        "far go on in the layers that it makes now"
    ]


def warn_with(reporter: Reporter) -> Callable[[str], None]:
    """Shows the warnings of `latest`, one for each damaged checkpoint."""
    return partial(reporter.remark, warning=True)


def for_restart(config: Resolved, reporter: Reporter) -> Resolved:
    """The config of a process that torchrun may have restarted.

    A restart goes on with the run that the same launch began, or begins it again if nothing was saved. It
    refuses another run's folder, like a first start.

    Raises:
        ConfigError: torchrun is to restart a run whose folder would be a new one each time.
    """
    if not config.out and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise ConfigError(
            "out: torchrun --max-restarts needs a folder that a restart finds again; give --out, or resume"
        )
    is_first_start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    # Rank 0 alone looks at the folder. The others get the checkpoint that it chooses with their job.
    if is_first_start or os.environ.get("RANK", "0") != "0":
        return config
    begun = RunFolder(Path(str(config.out))).is_begun_by(launch_id(), config)
    return as_far_as_it_got(config, reporter) if begun else config


def as_far_as_it_got(config: Resolved, reporter: Reporter) -> Resolved:
    """The config that goes on from the last checkpoint in ``config.out``, or, without one, begins again."""
    out = Path(str(config.out))
    if complete(out) and latest(out, warn_with(reporter)) is not None:
        return replace(config, resume=config.out, overwrite=False)
    return replace(config, overwrite=True)
