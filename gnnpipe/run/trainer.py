"""The training loop of one rank."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from gnnpipe.checkpoint.state import RankState
from gnnpipe.checkpoint.warm_start import load as load_weights
from gnnpipe.comm.clock import Clock
from gnnpipe.comm.stage_links import Messages
from gnnpipe.comm.world import World
from gnnpipe.config.rates import Plateau, Rates
from gnnpipe.engine.nonfinite import clear_nonfinite
from gnnpipe.engine.optimizer import set_rate
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import REFRESH, refresh
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
from gnnpipe.run.epoch import Epochs
from gnnpipe.run.epoch_record import KINDS, check_finite, epoch_record, gradient_quality
from gnnpipe.run.evaluation import Evaluation, evaluate
from gnnpipe.run.job import Job, about_model, reads_stale_rows
from gnnpipe.run.keeper import Keeper
from gnnpipe.run.observation import ages_of
from gnnpipe.run.reporter import Reporter
from gnnpipe.run.watch import Watch
from gnnpipe.schedule.staleness import chunk_orders
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
        self._first_epoch = job.start.epochs if job.start else 0
        plateau = Plateau(job.metric in LOWER_IS_BETTER)
        self._rates = Rates(config.optimizer, config.lr, config.epochs, plateau)
        if job.warm_start and not job.start:
            load_weights(stage, job.warm_start.path)
        self._epochs = Epochs(job, world, stage, graph, self._messages, self._clock)
        self._settings = job.tables
        self._state = RankState(stage, self._epochs.optimizer, self._epochs.averaged, graph, self._settings)
        self._folder = RunFolder(job.out)
        self._recorder = Recorder(self._folder, config.on_write_error, reporter.warn)
        self._keeper = Keeper(job, world, self._state, self._recorder)
        self._progress = Progress(job.metric)
        self._patience = Patience(config.patience, job.metric)
        self._stopped: StoppedEarly | None = None  # why the run ends before its last epoch
        self._facts = graph.facts
        self._ages = ages_of(job, graph, self._settings)
        self._watch = Watch(stale=reads_stale_rows(job))
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
                self._keeper.after(
                    epoch, due=due or self._keeper.after_last, refreshed=self._epochs.refreshed
                )
                break
            due = due or (answer.ends and self._job.checkpointing)
            self._keeper.after(epoch, due=due, refreshed=self._epochs.refreshed)
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
        """Answer of the callbacks to an epoch; the same on all ranks. As for `Audience.ask`."""
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
        self._epochs.refreshed = stored.about.refreshed
        reads = reads_stale_rows(self._job) and not start.over
        if reads and not self._state.restore_tables(stored):
            with self._messages.first_time("a refresh"):
                refresh(self._stage, self._messages, self._first_epoch)
            self._epochs.refreshed = True
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
            self._ages.epoch(
                record.epoch, orders[record.epoch], refreshed=self._epochs.refreshes(record.epoch)
            )
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
            settles: as for `Epochs.run`.

        Returns:
            Its record, whether a checkpoint is due, and the signal that told a rank to end (0: none).
        """
        lr = self._rates.of(epoch)
        set_rate(self._epochs.optimizer, lr)
        report, checks, skips = self._epochs.run(epoch, order, settles=settles)
        report = replace(report, wants_checkpoint=self._keeper.due(epoch), told_to_end=wish.number)
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

    @property
    def _kinds(self) -> tuple[str, ...]:
        """Kinds of bytes, in the order of the records."""
        return (*KINDS, REFRESH) if self._job.config.staleness.refresh else KINDS

    def _with_freshness(self, record: EpochRecord, order: list[int]) -> EpochRecord:
        """The record with the freshness and age of each convolution's messages; rank 0 keeps their count."""
        layers = self._ages.epoch(record.epoch, order, refreshed=self._epochs.refreshes(record.epoch))
        fresh = tuple(layer.fresh for layer in layers)
        return replace(record, fresh=fresh, age=tuple(layer.age for layer in layers))

    def _check_finite(self, loss: float, epoch: int, *, finite: bool) -> None:
        """Stop if an epoch's numbers are not finite. Its step is done, but no checkpoint holds it."""
        if math.isfinite(loss) and finite:
            return
        where = self._epochs.first_nonfinite()
        if self._job.checkpointing:
            where += f" (gnnpipe train --resume {self._job.out} goes on from the last checkpoint, if any)"
        check_finite("the loss" if not math.isfinite(loss) else "a gradient", math.nan, epoch, where)

    def _skip(self, epoch: int) -> None:
        """Clear the rows that are not finite and warn, or stop after too many skipped epochs."""
        clear_nonfinite(self._stage)
        if self._progress.skipped + 1 > MOST_SKIPPED_IN_A_ROW:
            where = f"{self._epochs.where}, like {self._progress.skipped} before it"
            check_finite("the loss", math.nan, epoch, where)
        if self._world.rank == 0:
            self._reporter.warn(
                f"epoch {epoch + 1} was skipped: its numbers are not finite{self._epochs.where}"
            )

    def _evaluate(self, epoch: int) -> Evaluation:
        """Evaluate the averaged weights. Without averaging the evaluated weights are also those that the next
        epoch starts with, so its refresh, if it is due, shares the sweep."""
        shares = self._epochs.refreshes(epoch + 1) and not self._job.config.optimizer.averaging
        self._epochs.refreshed = shares
        with self._epochs.averaged.in_place():
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
        with self._epochs.averaged.in_place():
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
