"""One epoch of training on one rank: forward, backward and the optimiser's step, perhaps with a refresh or a
check of the gradient."""

from __future__ import annotations

import math

from torch import Tensor

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.products import computing
from gnnpipe.comm.stage_links import Messages
from gnnpipe.comm.wire import Wire
from gnnpipe.comm.world import World
from gnnpipe.engine.engine import Engine, EpochUnderWay
from gnnpipe.engine.gradient_check import CheckResult
from gnnpipe.engine.nonfinite import finite_gradients, first_nonfinite, first_of
from gnnpipe.engine.optimizer import AveragedWeights, clip_gradients, make_optimizer
from gnnpipe.engine.replay import replayed
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import refresh, table_errors
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.run.epoch_record import RankReport
from gnnpipe.run.job import Job, reads_stale_rows
from gnnpipe.run.observation import gradient_check_of
from gnnpipe.schedule.timeline import RankTimeline


class Epochs:
    """Runs epochs of a rank, in step with the other ranks.

    Args:
        job: the run; the same on every rank.
        world: the ranks of the run.
        stage: this rank's layers, with the weights that the run begins with.
        graph: the prepared graph.
        messages: to and from the neighbouring stages.
        clock: times the work.
    """

    def __init__(
        self, job: Job, world: World, stage: Stage, graph: PreparedGraph, messages: Messages, clock: Clock
    ) -> None:
        config = job.config
        self._job, self._world, self._stage = job, world, stage
        self._messages, self._clock = messages, clock
        self._first_epoch = job.start.epochs if job.start else 0
        actions = job.plan.schedule.stages[stage.place.stage]
        graphs = job.plan.num_stages == 1 if config.cuda_graphs is None else config.cuda_graphs
        work = replayed(stage) if graphs else stage
        self._engine = Engine(stage, actions, messages, clock, Wire(job.plan.wire), work)
        self._check = gradient_check_of(job, stage, graph, messages, world.links)
        self.optimizer = make_optimizer(stage.modules, config.optimizer, config.lr, config.weight_decay)
        self.averaged = AveragedWeights(stage.modules, config.optimizer.averaging)
        self.refreshed = False
        """Whether a sweep has filled the next epoch's tables already."""
        self.where = ""
        """Clause that says where the numbers of a skipped epoch went wrong."""

    def run(
        self, epoch: int, order: list[int], *, settles: bool
    ) -> tuple[RankReport, list[CheckResult], bool]:
        """This rank's work in an epoch.

        Args:
            epoch: counted from 0.
            order: of its chunks.
            settles: whether the epoch waits for boundary rows still under way, as it does before an
                evaluation, with which they would otherwise arrive, in nobody's time.

        Returns:
            The report, the results of the gradient check, and whether the step was skipped.
        """
        # began                                            ended
        # | refresh, forward, backward | check | step, settle |     the check's seconds are not counted
        #
        # A CUDA device is given all of it before anything is read, so that it never waits for the host.
        began = self._clock.now()
        self.optimizer.zero_grad(set_to_none=False)  # recorded CUDA graphs add to gradients in place
        self._refresh(epoch)
        # the second epoch is the first one that reads rows and gradients of an epoch before
        # here alone, so that evaluations, refreshes and checks of the gradient are exact
        kind_of_epoch = f"epoch {min(epoch - self._first_epoch, 2)}"
        with computing(self._job.plan.compute), self._messages.first_time(kind_of_epoch):
            under_way = self._engine.run_epoch(epoch, order)
        sent = self._world.links.take_bytes()
        # The gradient check adds nothing to the gradients, so they are tested and applied after it.
        checks, seconds = self._check_gradient(epoch)
        finite = finite_gradients(self._stage)
        skips = self._skips(finite, under_way)
        self._step(skips=skips)
        if settles:
            self._stage.settle()
        ended = self._clock.now() - seconds
        result = under_way.result
        errors = table_errors(self._stage) if epoch and self.refreshes(epoch) else []
        timeline = RankTimeline(result.spans, result.finished)
        report = RankReport(result.loss_sum, bool(finite), timeline, began, ended, sent, errors)
        return report, checks, skips

    def _refresh(self, epoch: int) -> None:
        """Fill the tables by an exact sweep, if that is due and the last evaluation has not done so."""
        if self.refreshes(epoch) and not self.refreshed:
            with self._messages.first_time("a refresh"):
                refresh(self._stage, self._messages, epoch)
        self.refreshed = False

    def refreshes(self, epoch: int) -> bool:
        """Whether an epoch begins with a refresh; a run without stale rows needs none."""
        every = self._job.config.staleness.refresh
        return reads_stale_rows(self._job) and every > 0 and epoch % every == 0

    def _check_gradient(self, epoch: int) -> tuple[list[CheckResult], float]:
        """Compare with the exact gradient, if that is due; it always is in the last epoch. Also the seconds
        that it took."""
        config = self._job.config
        last = epoch + 1 == config.epochs
        if self._check is None or ((epoch + 1) % config.check_gradient and not last):
            return [], 0.0
        began = self._clock.now()
        with self._messages.first_time("a check of the gradient"):
            result = self._check.measure(epoch)
        self._world.links.take_bytes()  # the check's traffic is no epoch's
        checks = self._world.gather(result)
        return checks, self._clock.now() - began

    def _skips(self, finite: Tensor, under_way: EpochUnderWay) -> bool:
        """Whether all ranks leave this epoch's step out. Only then does the step wait for its numbers."""
        if self._job.config.on_nonfinite != "skip":
            return False
        return not all(self._world.gather(bool(finite) and math.isfinite(under_way.result.loss_sum)))

    def _step(self, *, skips: bool) -> None:
        """One optimiser step after the last backward: weights are never stale."""
        limit = self._job.config.optimizer.clip
        if limit and not skips:
            stage = self._stage
            clip_gradients(stage.modules, limit, self._world.gather, stage.counted_weights)
        if skips:
            self.where = self.first_nonfinite()
            self.optimizer.zero_grad(set_to_none=True)  # a step without gradients changes nothing
        self.optimizer.step()
        self.averaged.update()

    def first_nonfinite(self) -> str:
        """Clause that says where numbers went wrong first, as far as tables and gradients show it."""
        place = first_of(self._world.gather(first_nonfinite(self._stage, self._world.rank)))
        return f", first {place}" if place else ""
