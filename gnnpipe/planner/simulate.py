"""A discrete-event simulation of an epoch, over the same action lists that the engine runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import Literal

from gnnpipe.planner.events import Clock, Event, Shared, core_rate
from gnnpipe.planner.hardware import Hardware, Link
from gnnpipe.planner.workload import EngineKind, Work
from gnnpipe.schedule.actions import Action
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.timeline import HaloWait, RankTimeline, Span, Timeline


@dataclass(frozen=True)
class Simulated:
    """What an epoch would be like."""

    seconds: float
    timeline: Timeline
    busy: float
    """Seconds of computation of the busiest rank, were it alone on its core."""


def simulate(plan: Plan, work: Work, hardware: Hardware, engine: EngineKind = "ours") -> Simulated:
    """Run a plan's actions on hardware that need not exist.

    Computation, messages between stages, exchanges between parts and the sums of weights' gradients take
    turns on what they share: the cores of a host, its way out, and, where devices have no links of their own,
    its memory bus. A resource serves all who want it equally. Parts that are alike are simulated as one.

    Args:
        plan: whose schedule.
        work: what each action costs.
        hardware: on what.
        engine: ``ours`` sends beside computation. ``original`` is the published system's: messages are waited
            for, and all ranks meet behind every step.

    Raises:
        ValueError: the schedule deadlocks; the message names the stages that wait.
    """
    return _Simulation(plan, work, hardware, engine).run()


Steps = Generator[Event, None, None]
"""What a rank does: it yields what it waits for."""
Done = Callable[[], None]
"""What is called when something has been done."""


class _Simulation:
    def __init__(self, plan: Plan, work: Work, hardware: Hardware, engine: EngineKind) -> None:
        self.plan, self.work, self.hardware, self.engine = plan, work, hardware, engine
        self.schedule = plan.schedule
        self.clock = Clock()
        self.alike = 1 if work.part_scale else plan.num_parts
        on_machine = min(plan.num_ranks, hardware.devices_per_host * hardware.hosts_per_machine)
        cores = hardware.cores_per_host
        # Ranks of one stage wait in an exchange together, so cores are free; those of others compute on.
        self.crowded = cores is not None and on_machine > cores and plan.num_stages > 1
        crowded, usual = hardware.crowded_message_seconds, hardware.message_start_seconds
        self.message_start = 2 * (crowded if self.crowded else usual)  # of both ends
        self.events: dict[Hashable, Event] = {}
        self.counts: dict[Hashable, int] = {}
        self.shared: dict[Hashable, Shared] = {}
        self.queues: dict[tuple[int, int], deque[Done]] = {}
        self.waits: dict[int, str] = {}
        self.spans: dict[int, list[Span]] = {}
        self.finished: dict[int, float] = {}

    def run(self) -> Simulated:
        parts = self.plan.num_parts // self.alike
        ranks = [(stage, part) for stage in range(self.plan.num_stages) for part in range(parts)]
        for stage, part in ranks:
            self._resume(self._rank(stage, part))
        self.clock.run()
        if len(self.finished) < len(ranks):
            waiting = ", ".join(
                text for rank, text in sorted(self.waits.items()) if rank not in self.finished
            )
            raise ValueError(f"the schedule deadlocks: {waiting}")
        timeline = [
            RankTimeline(self.spans[rank], self.finished[rank])
            for rank in (stage * self.plan.num_parts + part for stage, part in ranks)
            for _ in range(self.alike)
        ]
        return Simulated(max(self.finished.values()) + self.work.epoch, timeline, self._busy())

    def _busy(self) -> float:
        scale = max(self.work.part_scale, default=1.0)
        return scale * max(
            self.plan.num_chunks * sum(layer.total for layer in stage) for stage in self.work.layers
        )

    def _resume(self, steps: Steps) -> None:
        """Go on until something has not happened yet."""
        for event in steps:
            if event.at is None:
                event.waiting.append(lambda: self._resume(steps))
                return

    def event(self, *key: Hashable) -> Event:
        return self.events.setdefault(key, Event())

    def fire(self, event: Event) -> None:
        event.at = self.clock.now
        waiting, event.waiting = event.waiting, []
        for call in waiting:
            call()

    def compute(self, rank: int, seconds: float) -> Event:
        """Computation of a rank, on a core it may have to share."""
        done = Event()
        cores = self.hardware.cores_per_host
        if not seconds:
            done.at = self.clock.now
        elif cores is None:
            self.clock.after(seconds, lambda: self.fire(done))
        else:
            self._on_cores(rank, seconds, lambda: self.fire(done))
        return done

    def pause(self, seconds: float) -> Event:
        """Nothing happens for so long."""
        done = Event()
        self.clock.after(seconds, lambda: self.fire(done))
        return done

    def _on_cores(self, rank: int, seconds: float, done: Done) -> None:
        """Work of a rank, and of all that are alike on its machine, on cores that they share."""
        hardware = self.hardware
        assert hardware.cores_per_host is not None
        together = min(self.alike, hardware.devices_per_host * hardware.hosts_per_machine)
        rate = core_rate(hardware.cores_per_host, hardware.contention, hardware.crowding)
        self._resource(("cores", hardware.machine_of(rank)), rate).add(seconds, together, done)

    def transfer(self, source: int, target: int, size: float, done: Done) -> None:
        """Bytes from a rank to another one, behind those that it has sent there before."""
        inside = self.hardware.host_of(source) == self.hardware.host_of(target)
        queue = self.queues.setdefault((source, target), deque())

        def arrived() -> None:
            queue.popleft()
            if queue:
                queue[0]()
            done()

        queue.append(lambda: self._carry(source, size, arrived, inside=inside, start=self.message_start))
        if len(queue) == 1:
            queue[0]()

    def _carry(self, rank: int, size: float, done: Done, *, inside: bool, start: float = 0.0) -> None:
        """Bytes that a rank and all like it on its host send; it takes cores ``start`` seconds besides."""
        if not size:
            done()
            return
        link: Link = self.hardware.local if inside else self.hardware.network
        together = min(self.alike, self.hardware.devices_per_host)
        path = ("local" if inside else "network", self.hardware.host_of(rank))
        if inside and not self.hardware.shares_local:
            together, path = 1, ("device", rank)
        resource = self._resource(path, lambda users: link.bandwidth / users)
        cost = start + 2 * size * self.hardware.message_seconds  # who sends receives as much, sooner or later
        left = [2 if self.hardware.cores_per_host and cost else 1]

        def carried() -> None:
            left[0] -= 1
            if not left[0]:
                done()

        if left[0] == 2:
            self._on_cores(rank, cost, carried)
        self.clock.after(link.latency, lambda: resource.add(size, together, carried))

    def _resource(self, key: Hashable, rate: Callable[[float], float]) -> Shared:
        if key not in self.shared:
            self.shared[key] = Shared(self.clock, rate)
        return self.shared[key]

    def exchange(self, stage: int, part: int, size: float, *key: Hashable) -> Event:
        """A part's share of an all-to-all inside its stage; it is done when all have sent theirs."""
        plan, event = self.plan, self.event("halo", stage, *key)
        rank = stage * plan.num_parts + part
        near = [
            other
            for other in range(stage * plan.num_parts, (stage + 1) * plan.num_parts)
            if self.hardware.host_of(other) == self.hardware.host_of(rank)
        ]
        others = max(plan.num_parts - 1, 1)
        inside = size * (len(near) - 1) / others

        def arrived() -> None:
            count = self.counts[stage, key] = self.counts.get((stage, key), 0) + 1
            if count == 2 * plan.num_parts // self.alike:
                self.fire(event)

        self._carry(rank, inside, arrived, inside=True)
        self._carry(rank, size - inside, arrived, inside=False)
        return event

    def _rank(self, stage: int, part: int) -> Steps:
        rank = stage * self.plan.num_parts + part
        spans = self.spans[rank] = []
        scale = self.work.part_scale[part] if self.work.part_scale else 1.0
        for index, action in enumerate(self.schedule.stages[stage]):
            if self.engine == "original":
                yield from self._barrier(stage, index, rank)
            asked = self.clock.now
            if self.schedule.feeder(stage, action):
                self.waits[rank] = f"stage {stage} waits for its neighbour's rows of {action}"
                yield self.event("row", stage, part, action.kind, action.enters)
            start = self.clock.now
            waits: list[HaloWait] = []
            yield from self._act(stage, part, action, scale, index, waits)
            yield from self._send(stage, part, action)
            if action.kind == "B":
                yield self.compute(rank, self._share(stage, action) * scale * self._sum(stage, "products"))
            spans.append(Span(asked, start, self.clock.now, tuple(waits)))
        if self.engine == "original":
            for step in range(self._steps(stage, len(spans)), self._num_steps):
                yield from self._barrier_at(step, rank)
        if self.plan.num_parts > 1:
            self.waits[rank] = f"stage {stage} waits for the sum of weights"
            yield self.exchange(stage, part, self.work.weights, "weights")
        self.finished[rank] = self.clock.now

    def _act(
        self, stage: int, part: int, action: Action, scale: float, index: int, waits: list[HaloWait]
    ) -> Steps:
        """The layers of a stage, with the exchanges between its parts."""
        rank = stage * self.plan.num_parts + part
        share = scale * self._share(stage, action)
        if self.plan.num_parts == 1:
            seconds = self._sum(stage, "forward" if action.kind == "F" else "backward")
            yield self.compute(rank, share * seconds)
            return
        layers = list(enumerate(self.work.layers[stage]))
        for number, layer in layers if action.kind == "F" else reversed(layers):
            if action.kind == "F":
                put, take, finish, size = layer.put, layer.take, layer.finish, layer.halo
            else:
                put, take, finish, size = layer.back_put, layer.back_take, layer.back_finish, layer.halo_back
            yield self.compute(rank, share * put)
            if not size:
                yield self.compute(rank, share * (take + finish))
                continue
            posted = self.clock.now
            event = self.exchange(stage, part, share / scale * size, index, number)
            if self.engine == "ours":
                yield self.compute(rank, share * take)
            asked = self.clock.now
            self.waits[rank] = f"stage {stage} waits for other parts' rows in {action}"
            yield event
            if self.crowded:
                yield self.pause(self.hardware.turn_seconds)
            waits.append(HaloWait(posted, asked, self.clock.now))
            yield self.compute(rank, share * (finish if self.engine == "ours" else take + finish))

    def _send(self, stage: int, part: int, action: Action) -> Steps:
        """Hand the chunk that leaves over to the next stage in its direction."""
        other, position = stage + 1 if action.kind == "F" else stage - 1, action.leaves
        if position is None or not 0 <= other < self.plan.num_stages:
            return
        event = self.event("row", other, part, action.kind, position)
        parts = self.plan.num_parts
        size = self.work.message * (self.work.chunk_scale[position] if self.work.chunk_scale else 1.0)
        self.transfer(stage * parts + part, other * parts + part, size, lambda: self.fire(event))
        if self.engine == "original":
            yield event

    def _share(self, stage: int, action: Action) -> float:
        """Share of a stage's layers that take a chunk, times the chunk's work."""
        first, last = self.plan.layer_ranges[stage]
        share = action.num_taken / (last - first)
        if self.work.chunk_scale and not self.plan.lookahead:
            assert action.enters is not None
            share *= self.work.chunk_scale[action.enters]
        return share

    def _sum(self, stage: int, kind: Literal["forward", "backward", "products"]) -> float:
        return sum(getattr(layer, kind) for layer in self.work.layers[stage])

    @property
    def _num_steps(self) -> int:
        return 2 * (self.plan.num_chunks + self.plan.num_stages - 1)

    def _steps(self, stage: int, index: int) -> int:
        """The step of the whole pipeline in which a stage runs one of its actions."""
        stages, chunks = self.plan.num_stages, self.plan.num_chunks
        return index + stage if index < chunks else index + stages - 1 + (stages - 1 - stage)

    def _barrier(self, stage: int, index: int, rank: int) -> Steps:
        """All ranks meet before each step, also those that have nothing to do in it."""
        done = self._steps(stage, index - 1) + 1 if index else 0
        for step in range(done, self._steps(stage, index) + 1):
            yield from self._barrier_at(step, rank)

    def _barrier_at(self, step: int, rank: int) -> Steps:
        key = ("barrier", step)
        self.counts[key] = self.counts.get(key, 0) + 1
        event = self.event(*key)
        if self.counts[key] == self.plan.num_stages * (self.plan.num_parts // self.alike):
            link = self.hardware.network
            self.clock.after(link.latency, lambda: self.fire(event))
        self.waits[rank] = f"rank {rank} waits for all others before step {step}"
        yield event
