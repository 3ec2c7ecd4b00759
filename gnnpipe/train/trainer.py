"""The training loop of one rank."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from gnnpipe.base.clock import Clock
from gnnpipe.base.errors import TrainingError
from gnnpipe.plan.staleness import chunk_orders
from gnnpipe.plan.timeline import RankTimeline, breakdowns
from gnnpipe.runtime.engine import COMMUNICATION_LAYER, Engine
from gnnpipe.runtime.halo import COMMUNICATION_GRAPH
from gnnpipe.runtime.memory import peak_memory_bytes
from gnnpipe.runtime.messages import Messages
from gnnpipe.runtime.stage import Stage
from gnnpipe.runtime.weights import WEIGHTS
from gnnpipe.runtime.world import World
from gnnpipe.train.evaluation import evaluate
from gnnpipe.train.job import Job
from gnnpipe.train.optimizer import AveragedWeights, clip_gradients, make_optimizer, make_scheduler
from gnnpipe.train.records import RunFolder
from gnnpipe.train.versions import hardware, versions

KINDS = (COMMUNICATION_LAYER, COMMUNICATION_GRAPH, WEIGHTS)


class Reporter(Protocol):
    """Shows a run while it goes on; called on rank 0 only."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """No epoch follows."""

    def say(self, line: str) -> None:
        """Print one line."""


@dataclass(frozen=True)
class RankReport:
    """What each rank tells all others after an epoch."""

    loss_sum: float
    timeline: RankTimeline
    began: float
    ended: float
    bytes_sent: dict[str, int]


class Trainer:
    """Trains one stage, in step with the others.

    Args:
        job: what to do.
        world: the other ranks.
        stage: this rank's layers.
        reporter: on rank 0, who shows the run.
    """

    def __init__(self, job: Job, world: World, stage: Stage, reporter: Reporter) -> None:
        config = job.config
        self._job, self._world, self._stage, self._reporter = job, world, stage, reporter
        self._clock = Clock(world.device)
        self._messages = Messages(stage.place, world.device, world.links)
        self._schedule = job.plan.schedule
        self._engine = Engine(stage, self._schedule.stages[stage.place.stage], self._messages, self._clock)
        self._optimizer = make_optimizer(stage.modules, config.optimizer, config.lr, config.weight_decay)
        self._scheduler = make_scheduler(self._optimizer, config.optimizer, config.epochs)
        assert config.optimizer.averaging is not None
        self._averaged = AveragedWeights(stage.modules, config.optimizer.averaging)
        self._folder = RunFolder(job.out)
        self._best: dict[str, Any] = {"best_val": -math.inf}

    def train(self) -> None:
        """Run all epochs and write the summary."""
        config = self._job.config
        assert config.staleness.order is not None
        self._messages.connect()
        order = "fixed" if self._job.plan.exact else config.staleness.order
        orders = chunk_orders(order, self._job.plan.num_chunks, config.seed)
        seconds = []
        record: dict[str, Any] = {}
        for epoch in range(config.epochs):
            evaluates = (epoch + 1) % config.eval_every == 0 or epoch + 1 == config.epochs
            record = self._train_epoch(epoch, next(orders), settles=evaluates)
            if evaluates:
                record |= self._evaluate(epoch)
            seconds.append(record["seconds"])
            if self._world.rank == 0:
                self._folder.append(record)
                self._reporter.epoch(record)
        self._finish(seconds, record)

    def _train_epoch(self, epoch: int, order: list[int], *, settles: bool) -> dict[str, Any]:
        """One epoch; before an evaluation it includes what a stale halo still has under way, which would
        otherwise travel unbilled."""
        began = self._clock.now()
        result = self._engine.run_epoch(epoch, order)
        lr = float(self._scheduler.get_last_lr()[0])
        self._step()
        if settles:
            self._stage.settle()
        timeline = RankTimeline(result.spans, result.finished)
        report = RankReport(
            result.loss_sum, timeline, began, self._clock.now(), self._world.links.take_bytes()
        )
        return self._record(epoch, lr, self._world.gather(report))

    def _step(self) -> None:
        """One optimiser step after the last backward: weights are never stale."""
        limit = self._job.config.optimizer.clip
        if limit:
            first_part = self._stage.place.part == 0  # parts of a stage have the same gradients
            clip_gradients(self._stage.modules, limit, self._world.gather, counts=first_part)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._scheduler.step()
        self._averaged.update()

    def _record(self, epoch: int, lr: float, reports: list[RankReport]) -> dict[str, Any]:
        """An epoch's line. The same on every rank, so that all decide alike."""
        loss = sum(report.loss_sum for report in reports) / self._stage.num_train
        _check_finite("the loss", loss, epoch)
        seconds = max(report.ended for report in reports) - min(report.began for report in reports)
        timeline = [report.timeline for report in reports]
        by_rank = [dict.fromkeys(KINDS, 0) | report.bytes_sent for report in reports]
        return {
            "epoch": epoch,
            "loss": loss,
            "lr": lr,
            "seconds": seconds,
            "ranks": [asdict(item) for item in breakdowns(timeline, self._schedule, seconds)],
            "bytes_sent": {kind: sum(sent[kind] for sent in by_rank) for kind in KINDS},
            "bytes_sent_by_rank": by_rank,
        }

    def _evaluate(self, epoch: int) -> dict[str, float]:
        """Evaluate the averaged weights, and keep them if they are the best yet."""
        with self._averaged.in_place():
            stage, job = self._stage, self._job
            metrics = evaluate(stage, self._messages, job.metric, job.spec.num_classes, self._world.gather)
            self._world.links.take_bytes()
            _check_finite("a logit", metrics["val"], epoch)
            if metrics["val"] > self._best["best_val"]:
                self._best = {
                    "best_val": metrics["val"],
                    "test_at_best_val": metrics["test"],
                    "best_epoch": epoch,
                }
                self._save_model()
        return metrics

    def _save_model(self) -> None:
        weights: dict[str, Tensor] = {}
        for layer in self._stage.layers if self._stage.place.part == 0 else []:
            for name, tensor in layer.module.state_dict().items():
                weights[f"{layer.spec.name}.{name}"] = tensor.detach().cpu().clone()
        parts = self._world.collect(weights)
        if parts is not None:
            self._folder.write_model({name: tensor for part in parts for name, tensor in part.items()})

    def _finish(self, seconds: list[float], last: dict[str, Any]) -> None:
        peaks = self._world.gather(peak_memory_bytes(self._world.device))
        if self._world.rank != 0:
            return
        self._reporter.close()
        self._folder.write_summary(
            {
                "metric": self._job.metric,
                **self._best,
                "epochs": len(seconds),
                "median_epoch_seconds": statistics.median(seconds),
                "bytes_per_epoch": last["bytes_sent"],
                "bytes_per_epoch_by_rank": last["bytes_sent_by_rank"],
                "peak_memory_bytes": peaks,
                "versions": versions(),
                "hardware": hardware(self._world.device, self._world.size),
            }
        )


def _check_finite(what: str, value: float, epoch: int) -> None:
    """Stop a run whose numbers went wrong; every rank sees the same value."""
    if not math.isfinite(value):
        raise TrainingError(
            f"{what} became {value} in epoch {epoch + 1}; use a lower --lr, fewer --chunks, or "
            "--staleness exact (with --halo exact) to see whether staleness is the cause"
        )
