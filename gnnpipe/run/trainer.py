"""The training loop of one rank."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from gnnpipe.checkpoint.state import RankState
from gnnpipe.checkpoint.warm_start import load as load_weights
from gnnpipe.comm.clock import Clock
from gnnpipe.comm.products import computing
from gnnpipe.comm.stage_links import Messages
from gnnpipe.comm.wire import Wire
from gnnpipe.comm.world import World
from gnnpipe.config.rates import Plateau, Rates
from gnnpipe.engine.engine import Engine, EpochUnderWay
from gnnpipe.engine.gradient_check import CheckResult
from gnnpipe.engine.nonfinite import clear_nonfinite, finite_gradients, first_nonfinite, first_of
from gnnpipe.engine.optimizer import AveragedWeights, clip_gradients, make_optimizer, set_rate
from gnnpipe.engine.replay import replayed
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import REFRESH, refresh, table_errors
from gnnpipe.errors import StoppedError, TrainingError
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.nn.metrics import LOWER_IS_BETTER
from gnnpipe.nn.split_metrics import Measure
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.patience import Patience
from gnnpipe.records.progress import Progress
from gnnpipe.records.record import Best, EpochRecord, StoppedEarly, Summary
from gnnpipe.records.recorder import Recorder
from gnnpipe.run.callbacks.asking import Audience
from gnnpipe.run.callbacks.host import Answer
from gnnpipe.run.epoch_record import KINDS, RankReport, check_finite, epoch_record, gradient_quality
from gnnpipe.run.evaluation import Evaluation, evaluate
from gnnpipe.run.job import Job, about_model, reads_stale_rows
from gnnpipe.run.keeper import Keeper
from gnnpipe.run.observation import ages_of, gradient_check_of
from gnnpipe.run.reporter import Reporter
from gnnpipe.run.watch import Watch
from gnnpipe.schedule.staleness import chunk_orders
from gnnpipe.schedule.timeline import RankTimeline
from gnnpipe.system.interruption import Wish
from gnnpipe.system.memory import peak_memory_bytes
from gnnpipe.system.versions import hardware, versions

# Skipped epochs in a row after which the run stops: as many are no accident.
MOST_SKIPPED_IN_A_ROW = 10


class Trainer:
    """Trains this rank's share of the model, in step with the other ranks.

    Args:
        job: the run; the same on every rank.
        world: the ranks of the run.
        stage: this rank's layers.
        graph: the prepared graph.
        reporter: shows the run; used on rank 0.
        audience: the callbacks; None without any.
    """

    def __init__(
        self,
        job: Job,
        world: World,
        stage: Stage,
        graph: PreparedGraph,
        reporter: Reporter,
        audience: Audience | None = None,
    ) -> None:
        config = job.config
        self._job, self._world, self._stage, self._reporter = job, world, stage, reporter
        self._audience = audience
        self._clock = Clock(world.device)
        self._messages = Messages(stage.place, world.device, world.links)
        actions = job.plan.schedule.stages[stage.place.stage]
        graphs = job.plan.num_stages == 1 if config.cuda_graphs is None else config.cuda_graphs
        work = replayed(stage) if graphs else stage
        self._engine = Engine(stage, actions, self._messages, self._clock, Wire(job.plan.wire), work)
        self._first_epoch = job.start.epochs if job.start else 0
        self._optimizer = make_optimizer(stage.modules, config.optimizer, config.lr, config.weight_decay)
        plateau = Plateau(job.metric in LOWER_IS_BETTER)
        self._rates = Rates(config.optimizer, config.lr, config.epochs, plateau)
        if job.warm_start and not job.start:
            load_weights(stage, job.warm_start.path)
        self._averaged = AveragedWeights(stage.modules, config.optimizer.averaging)
        self._settings = job.tables
        self._state = RankState(stage, self._optimizer, self._averaged, graph, self._settings)
        self._folder = RunFolder(job.out)
        self._recorder = Recorder(self._folder, config.on_write_error, reporter.warn)
        self._keeper = Keeper(job, world, self._state, self._recorder)
        self._progress = Progress(job.metric)
        self._patience = Patience(config.patience, job.metric)
        self._stopped: StoppedEarly | None = None  # why the run ends before its last epoch
        self._facts = graph.facts
        self._ages = ages_of(job, graph, self._settings)
        self._check = gradient_check_of(job, stage, graph, self._messages, world.links)
        self._watch = Watch(stale=reads_stale_rows(job))
        self._refreshed = False  # whether a sweep has filled the next epoch's tables already
        self._where = ""  # clause that says where the numbers of a skipped epoch went wrong
        order = "fixed" if job.plan.exact else config.staleness.order
        self._orders = chunk_orders(order, job.plan.num_chunks, config.seed)
        self._last: EpochRecord | None = None  # on rank 0, the last epoch's
        self._began = 0.0  # time of the run's begin, if it had run through

    def begin(self) -> None:
        """Connect to the other ranks and restore the job's checkpoint, if it has one."""
        # The orders of the epochs that are done are drawn too, so that the next one is the next epoch's.
        self._messages.connect()
        self._last = self._resume([next(self._orders) for _ in range(self._first_epoch)])

    def train(self, wish: Wish) -> None:
        """Run the epochs that are left and write the summary.

        Args:
            wish: says whether a signal has told this rank to end. It is read after each epoch and shared, so
                that all ranks stop after the same one.

        Raises:
            StoppedError: a rank was told to end; the finished epochs are saved.
            TrainingError: also if a callback has raised something; likewise.
        """
        # An epoch, on all ranks in step:
        #   train -> evaluate (when due) -> callbacks -> best weights -> record (rank 0) -> checkpoint (when
        #   due) -> end?
        # Whether to evaluate, save or stop follows from what all ranks know. One that decided by itself would
        # leave the others waiting in the next exchange.
        config = self._job.config
        record = self._last
        self._began = self._clock.now() - (record.elapsed if record else 0.0)
        for epoch in range(self._first_epoch, self._first_epoch if self._stopped else config.epochs):
            is_last = epoch + 1 == config.epochs
            evaluates = (epoch + 1) % config.eval_every == 0 or is_last
            record, due, told = self._train_epoch(epoch, next(self._orders), wish, settles=evaluates)
            if evaluates:
                record = self._evaluated(record)
            record, answer = self._heard(record, wish, is_last=is_last)
            self._keep(record)
            if self._stopped:
                self._keeper.after(epoch, due=due or self._keeper.after_last, refreshed=self._refreshed)
                break
            due = due or (answer.ends and self._job.checkpointing)
            self._keeper.after(epoch, due=due, refreshed=self._refreshed)
            if (told or answer.ends) and not is_last:
                self._leave(told, answer)
        self._keeper.finish()
        self._finish(record)

    def _heard(self, record: EpochRecord, wish: Wish, *, is_last: bool) -> tuple[EpochRecord, Answer]:
        """Decide with the callbacks whether the run stops early; return the epoch's whole record and what
        they say. The record of the last epoch has scores."""
        record = replace(record, elapsed=self._clock.now() - self._began)
        answer = self._ask(record, wish)
        self._stopped = None if is_last else self._stopped_early(record, answer)
        if self._stopped and record.scores is None:
            record = replace(self._evaluated(record), elapsed=self._clock.now() - self._began)
            answer = self._ask(record, wish, late=True)
        return record, answer

    def _ask(self, record: EpochRecord, wish: Wish, *, late: bool = False) -> Answer:
        """What the callbacks say to an epoch; the same on all ranks. As for `Audience.ask`."""
        if self._audience is None:
            return Answer()
        answer = self._audience.ask(record, wish, late=late)
        if self._world.rank == 0:
            for warning in answer.warnings:
                self._reporter.warn(warning)
        return answer

    def _leave(self, told: int, answer: Answer) -> None:
        """End the run, which is not finished, after its epoch is saved; raises as `train` does."""
        self._keeper.finish()
        self._reporter.close()
        self._world.gather(None)  # a barrier: no rank leaves while another still writes
        if answer.failure:
            raise TrainingError(answer.failure)
        raise StoppedError(told or answer.signal)

    def _stopped_early(self, record: EpochRecord, answer: Answer) -> StoppedEarly | None:
        """Why the run ends, as finished, with this epoch; None to go on. Nothing else ends a run so.

        All ranks come to the same: they hold the same record, and share the answer of the callbacks.
        """
        patience = self._patience.add(record)
        return patience or (StoppedEarly(record.epoch, answer.stop) if answer.stop else None)

    def _evaluated(self, record: EpochRecord) -> EpochRecord:
        """The epoch's record with its scores, by which the learning rate may fall from the next one on."""
        evaluation = self._evaluate(record.epoch)
        self._rates.add(record.epoch, evaluation.scores.val)
        return replace(record, scores=evaluation.scores, classes=evaluation.classes)

    def _keep(self, record: EpochRecord) -> None:
        """Count an epoch, and write and show its record; write its weights if they are the best yet."""
        best = self._progress.add(record)
        if best is not None:
            self._save_model(best)
        else:  # counts of classes would swell the records; only the best epoch's are looked at
            record = replace(record, classes=None)
        if self._world.rank == 0:
            self._recorder.append(record)
            self._reporter.epoch(record)
            for warning in self._watch.warnings(record):
                self._reporter.warn(warning)

    def _resume(self, orders: list[list[int]]) -> EpochRecord | None:
        """Restore the job's checkpoint, if any; return the last record on rank 0, and None elsewhere.

        Args:
            orders: of the chunks in the epochs that are done.
        """
        start = self._job.start
        if start is None:
            return None
        stored = start.open()
        self._state.restore(stored)
        self._refreshed = stored.about.refreshed
        reads = reads_stale_rows(self._job) and not start.over
        if reads and not self._state.restore_tables(stored):
            with self._messages.first_time("a refresh"):
                refresh(self._stage, self._messages, self._first_epoch)
            self._refreshed = True
        self._world.links.take_bytes()  # a refresh here is no epoch's traffic
        # Progress, patience, rates, warnings and ages follow from the records: they are replayed, not stored.
        self._progress.since = start.plan_since
        records = self._folder.records() if self._world.rank == 0 else []
        for record in records:
            self._progress.add(record)
            stopped = self._patience.add(record)
            self._stopped = stopped if record.epoch + 1 < self._job.config.epochs else None
            if record.scores is not None:
                self._rates.add(record.epoch, record.scores.val)
            list(self._watch.warnings(record))
            self._ages.epoch(record.epoch, orders[record.epoch], refreshed=self._refreshes(record.epoch))
        if stored.about.says_best:
            self._progress.hold(stored.about.best, records)
        state = self._progress, self._patience, self._stopped, self._rates
        self._progress, self._patience, self._stopped, self._rates = self._world.gather(state)[0]
        return records[-1] if records else None

    def _train_epoch(
        self, epoch: int, order: list[int], wish: Wish, *, settles: bool
    ) -> tuple[EpochRecord, bool, int]:
        """One epoch on all ranks.

        Args:
            epoch: counted from 0.
            order: of its chunks.
            wish: as for `train`.
            settles: whether the epoch waits for boundary rows still under way, as it does before an
                evaluation, with which they would otherwise arrive, in nobody's time.

        Returns:
            Its record, whether a checkpoint is due, and the signal that told a rank to end (0: none).
        """
        lr = self._rates.of(epoch)
        set_rate(self._optimizer, lr)
        report, checks, skips = self._run_epoch(epoch, order, wish, settles=settles)
        # From here on all ranks hold the same reports, so that they decide alike.
        reports = self._world.gather(report)
        divisor, schedule = self._stage.loss.divisor, self._job.plan.schedule
        record = epoch_record(epoch, lr, reports, schedule, divisor, self._kinds, skipped=skips)
        if record.loss is None:
            self._skip(epoch)
        else:
            self._check_finite(record.loss, epoch, finite=all(report.finite for report in reports))
        if checks and not skips:
            record = replace(record, gradient=gradient_quality(epoch, checks, divisor))
        if self._world.rank == 0:
            record = self._with_freshness(record, order)
        told = next((report.told_to_end for report in reports if report.told_to_end), 0)
        return record, reports[0].wants_checkpoint or (bool(told) and self._job.checkpointing), told

    def _run_epoch(
        self, epoch: int, order: list[int], wish: Wish, *, settles: bool
    ) -> tuple[RankReport, list[CheckResult], bool]:
        """This rank's work in an epoch; also the results of the gradient check, and whether the step was
        skipped."""
        # began                                            ended
        # | refresh, forward, backward | check | step, settle |     the check's seconds are not counted
        #
        # A CUDA device is given all of it before anything is read, so that it never waits for the host.
        began = self._clock.now()
        self._optimizer.zero_grad(set_to_none=False)  # recorded CUDA graphs add to gradients in place
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
        errors = table_errors(self._stage) if epoch and self._refreshes(epoch) else []
        timeline = RankTimeline(result.spans, result.finished)
        due = self._keeper.due(epoch)
        told = wish.number
        report = RankReport(result.loss_sum, bool(finite), timeline, began, ended, sent, errors, due, told)
        return report, checks, skips

    @property
    def _kinds(self) -> tuple[str, ...]:
        """Kinds of bytes, in the order of the records."""
        return (*KINDS, REFRESH) if self._job.config.staleness.refresh else KINDS

    def _with_freshness(self, record: EpochRecord, order: list[int]) -> EpochRecord:
        """The record with the freshness and age of each convolution's messages; rank 0 keeps their count."""
        layers = self._ages.epoch(record.epoch, order, refreshed=self._refreshes(record.epoch))
        fresh = tuple(layer.fresh for layer in layers)
        return replace(record, fresh=fresh, age=tuple(layer.age for layer in layers))

    def _refresh(self, epoch: int) -> None:
        """Fill the tables by an exact sweep, if that is due and the last evaluation has not done so."""
        if self._refreshes(epoch) and not self._refreshed:
            with self._messages.first_time("a refresh"):
                refresh(self._stage, self._messages, epoch)
        self._refreshed = False

    def _refreshes(self, epoch: int) -> bool:
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
            self._where = self._first_nonfinite()
            self._optimizer.zero_grad(set_to_none=True)  # a step without gradients changes nothing
        self._optimizer.step()
        self._averaged.update()

    def _first_nonfinite(self) -> str:
        """Clause that says where numbers went wrong first, as far as tables and gradients show it."""
        place = first_of(self._world.gather(first_nonfinite(self._stage, self._world.rank)))
        return f", first {place}" if place else ""

    def _check_finite(self, loss: float, epoch: int, *, finite: bool) -> None:
        """Stop if an epoch's numbers are not finite. Its step is done, but no checkpoint holds it."""
        if math.isfinite(loss) and finite:
            return
        where = self._first_nonfinite()
        if self._job.checkpointing:
            where += f" (gnnpipe train --resume {self._job.out} goes on from the last checkpoint, if any)"
        check_finite("the loss" if not math.isfinite(loss) else "a gradient", math.nan, epoch, where)

    def _skip(self, epoch: int) -> None:
        """Clear the rows that are not finite and warn, or stop after too many skipped epochs."""
        clear_nonfinite(self._stage)
        if self._progress.skipped + 1 > MOST_SKIPPED_IN_A_ROW:
            where = f"{self._where}, like {self._progress.skipped} before it"
            check_finite("the loss", math.nan, epoch, where)
        if self._world.rank == 0:
            self._reporter.warn(f"epoch {epoch + 1} was skipped: its numbers are not finite{self._where}")

    def _evaluate(self, epoch: int) -> Evaluation:
        """Evaluate the averaged weights. Without averaging the evaluated weights are also those that the next
        epoch starts with, so its refresh, if it is due, shares the sweep."""
        shares = self._refreshes(epoch + 1) and not self._job.config.optimizer.averaging
        self._refreshed = shares
        with self._averaged.in_place():
            measure = Measure.of(self._job.metric, self._facts)
            with self._messages.first_time(f"an evaluation{' with a refresh' * shares}"):
                evaluation = evaluate(
                    self._stage,
                    self._messages,
                    measure,
                    self._world.gather,
                    epoch + 1 if shares else None,
                )
        self._world.links.take_bytes()
        check_finite("a logit", evaluation.scores.val, epoch)
        return evaluation

    def _save_model(self, best: Best) -> None:
        """Write the averaged weights, the best so far. All parts hold the same ones; the first part's go."""
        weights: dict[str, Tensor] = {}
        with self._averaged.in_place():
            for layer in self._stage.layers if self._stage.place.part == 0 else []:
                for name, tensor in layer.module.state_dict().items():
                    weights[f"{layer.spec.name}.{name}"] = tensor.detach().cpu().clone().contiguous()
        shares = self._world.collect(weights)
        if shares is not None:
            self._recorder.model(shares, about_model(self._job, best, self._facts))

    def _finish(self, last: EpochRecord | None) -> None:
        """Write the summary, on rank 0."""
        peaks = self._world.gather(peak_memory_bytes(self._world.device))
        if self._world.rank != 0:
            return
        self._reporter.close()
        progress, stopped = self._progress, self._stopped
        if stopped:
            self._reporter.say(f"stopped after epoch {stopped.epoch + 1}: {stopped.reason}")
        if last is None or progress.best is None:  # only where somebody has changed the files
            raise TrainingError("no epoch is known whose weights are kept; go on with more --epochs")
        kinds = list(last.bytes_sent)
        self._recorder.summary(
            Summary(
                self._job.metric,
                progress.best,
                progress.epochs,
                progress.median_seconds,
                progress.bytes_per_epoch(kinds),
                progress.bytes_per_epoch_by_rank(kinds),
                tuple(peaks),
                versions(),
                hardware(self._world.device, self._world.size),
                stopped,
            ),
            self._facts.class_names,
        )
