"""The training loop of one rank."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from gnnpipe.base.clock import Clock
from gnnpipe.base.errors import TrainingError
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.plan.ages import Ages
from gnnpipe.plan.estimate import LayerSums, estimates
from gnnpipe.plan.staleness import chunk_orders
from gnnpipe.plan.timeline import RankTimeline, breakdowns
from gnnpipe.runtime.engine import COMMUNICATION_LAYER, Engine
from gnnpipe.runtime.gradient_check import CheckResult, GradientCheck
from gnnpipe.runtime.halo import COMMUNICATION_GRAPH
from gnnpipe.runtime.memory import peak_memory_bytes
from gnnpipe.runtime.messages import Messages
from gnnpipe.runtime.stage import Stage
from gnnpipe.runtime.sweep import REFRESH, refresh, table_errors
from gnnpipe.runtime.tables import TableSettings
from gnnpipe.runtime.weights import WEIGHTS
from gnnpipe.runtime.wire import Wire
from gnnpipe.runtime.world import World
from gnnpipe.train.evaluation import evaluate
from gnnpipe.train.job import Job, dropout_settings, has_estimate, reads_stale_rows
from gnnpipe.train.optimizer import AveragedWeights, clip_gradients, make_optimizer, make_scheduler
from gnnpipe.train.records import RunFolder
from gnnpipe.train.versions import hardware, versions
from gnnpipe.train.watch import Watch

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
    table_errors: list[LayerSums]
    """How far stale rows were off when they were refreshed, if this epoch began so."""


class Trainer:
    """Trains one stage, in step with the others.

    Args:
        job: what to do.
        world: the other ranks.
        stage: this rank's layers.
        graph: the prepared graph.
        reporter: on rank 0, who shows the run.
    """

    def __init__(
        self, job: Job, world: World, stage: Stage, graph: PreparedGraph, reporter: Reporter
    ) -> None:
        config = job.config
        self._job, self._world, self._stage, self._reporter = job, world, stage, reporter
        self._clock = Clock(world.device)
        self._messages = Messages(stage.place, world.device, world.links)
        self._schedule = job.plan.schedule
        actions = self._schedule.stages[stage.place.stage]
        self._engine = Engine(stage, actions, self._messages, self._clock, Wire(job.plan.wire))
        self._optimizer = make_optimizer(stage.modules, config.optimizer, config.lr, config.weight_decay)
        self._scheduler = make_scheduler(self._optimizer, config.optimizer, config.epochs)
        assert config.optimizer.averaging is not None
        self._averaged = AveragedWeights(stage.modules, config.optimizer.averaging)
        self._folder = RunFolder(job.out)
        self._best: dict[str, Any] = {"best_val": -math.inf}
        self._ages = _ages(job, graph)
        self._sent = [Counter[str]() for _ in range(world.size)]
        self._check = (
            GradientCheck(
                stage, job.plan, job.spec, graph, dropout_settings(config), self._messages, world.links
            )
            if config.check_gradient and has_estimate(job)
            else None
        )
        self._watch = Watch(stale=reads_stale_rows(job))
        self._refreshed_by_evaluation = False

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
            for total, sent in zip(self._sent, record["bytes_sent_by_rank"], strict=True):
                total.update(sent)
            if self._world.rank == 0:
                self._folder.append(record)
                self._reporter.epoch(record)
                for warning in self._watch.warnings(record):
                    self._reporter.say(f"warning: {warning}")
        self._finish(seconds, record)

    def _train_epoch(self, epoch: int, order: list[int], *, settles: bool) -> dict[str, Any]:
        """One epoch; before an evaluation it includes what a stale halo still has under way, which would
        otherwise travel unbilled."""
        began = self._clock.now()
        self._refresh(epoch)
        result = self._engine.run_epoch(epoch, order)
        lr = float(self._scheduler.get_last_lr()[0])
        sent = self._world.links.take_bytes()
        ran = self._clock.now() - began
        checks = self._check_gradient(epoch)
        stepped = self._clock.now()
        self._step()
        if settles:
            self._stage.settle()
        timeline = RankTimeline(result.spans, result.finished)
        errors = table_errors(self._stage) if epoch and self._refreshes(epoch) else []
        ended = began + ran + self._clock.now() - stepped
        report = RankReport(result.loss_sum, timeline, began, ended, sent, errors)
        record = self._record(epoch, lr, self._world.gather(report), checks)
        if self._world.rank == 0:
            freshness = self._ages.epoch(epoch, order, refreshed=self._refreshes(epoch))
            record["fresh"] = [layer.fresh for layer in freshness]
            record["age"] = [layer.age for layer in freshness]
        return record

    def _refresh(self, epoch: int) -> None:
        """Fill the tables from an exact sweep, if that is due and the last evaluation's did not."""
        if self._refreshes(epoch) and not self._refreshed_by_evaluation:
            refresh(self._stage, self._messages, epoch)
        self._refreshed_by_evaluation = False

    def _refreshes(self, epoch: int) -> bool:
        """Whether an epoch begins with exact tables; with nothing stale they always are."""
        every = self._job.config.staleness.refresh
        return reads_stale_rows(self._job) and bool(every) and epoch % (every or 1) == 0

    def _check_gradient(self, epoch: int) -> list[CheckResult]:
        """Compare with the exact gradient, if that is due, as it is after the last epoch."""
        config = self._job.config
        last = epoch + 1 == config.epochs
        if self._check is None or ((epoch + 1) % config.check_gradient and not last):
            return []
        result = self._check.measure(epoch)
        self._world.links.take_bytes()
        return self._world.gather(result)

    def _step(self) -> None:
        """One optimiser step after the last backward: weights are never stale."""
        limit = self._job.config.optimizer.clip
        if limit:
            stage = self._stage
            clip_gradients(stage.modules, limit, self._world.gather, stage.counted_weights)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._scheduler.step()
        self._averaged.update()

    def _record(
        self, epoch: int, lr: float, reports: list[RankReport], checks: list[CheckResult]
    ) -> dict[str, Any]:
        """An epoch's line. The same on every rank, so that all decide alike."""
        loss = sum(report.loss_sum for report in reports) / self._stage.num_train
        _check_finite("the loss", loss, epoch)
        seconds = max(report.ended for report in reports) - min(report.began for report in reports)
        timeline = [report.timeline for report in reports]
        kinds = (*KINDS, REFRESH) if self._job.config.staleness.refresh else KINDS
        by_rank = [{kind: report.bytes_sent.get(kind, 0) for kind in kinds} for report in reports]
        record: dict[str, Any] = {
            "epoch": epoch,
            "loss": loss,
            "lr": lr,
            "seconds": seconds,
            "ranks": [asdict(item) for item in breakdowns(timeline, self._schedule, seconds)],
            "bytes_sent": {kind: sum(sent[kind] for sent in by_rank) for kind in kinds},
            "bytes_sent_by_rank": by_rank,
        }
        off = estimates(item for report in reports for item in report.table_errors)
        if off["all"].table_error is not None:
            record["table_error"] = {name: item.table_error for name, item in off.items()}
        if checks:
            record["exact_loss"] = sum(check.loss_sum for check in checks) / self._stage.num_train
            _check_finite("the exact loss", record["exact_loss"], epoch)
            found = estimates(item for check in checks for item in check.layers)
            _check_finite("the error of the gradient", found["all"].relative_error, epoch)
            _check_finite("the error of stale rows", found["all"].table_error or 0.0, epoch)
            record["estimate"] = {name: asdict(item) for name, item in found.items()}
        return record

    def _evaluate(self, epoch: int) -> dict[str, float]:
        """Evaluate the averaged weights, and keep them if they are the best yet. Weights that are not
        averaged are the next epoch's, so that its refresh may share the sweep."""
        shares = self._refreshes(epoch + 1) and not self._job.config.optimizer.averaging
        self._refreshed_by_evaluation = shares
        with self._averaged.in_place():
            stage, job = self._stage, self._job
            metrics = evaluate(
                stage,
                self._messages,
                job.metric,
                job.spec.num_classes,
                self._world.gather,
                epoch + 1 if shares else None,
            )
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

    def _per_epoch(self, total: Counter[str], last: dict[str, Any]) -> dict[str, int]:
        """Bytes of a mean epoch; only a refresh does not send as much in each."""
        return {kind: round(total[kind] / self._job.config.epochs) for kind in last["bytes_sent"]}

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
                "bytes_per_epoch": self._per_epoch(sum(self._sent, Counter()), last),
                "bytes_per_epoch_by_rank": [self._per_epoch(total, last) for total in self._sent],
                "peak_memory_bytes": peaks,
                "versions": versions(),
                "hardware": hardware(self._world.device, self._world.size),
            }
        )


def _ages(job: Job, graph: PreparedGraph) -> Ages:
    """How fresh the rows are that each convolution reads."""
    settings = TableSettings.of(job.config.staleness, job.plan, job.config.halo)
    return Ages(
        graph.messages.numpy(),
        job.config.layers,
        settings.freeze,
        job.plan.lookahead,
        stale_halo=settings.stale_halo,
    )


def _check_finite(what: str, value: float, epoch: int) -> None:
    """Stop a run whose numbers went wrong; every rank sees the same value."""
    if not math.isfinite(value):
        raise TrainingError(
            f"{what} became {value} in epoch {epoch + 1}; use a lower --lr, fewer --chunks, or "
            "--staleness exact (with --halo exact) to see whether staleness is the cause"
        )
