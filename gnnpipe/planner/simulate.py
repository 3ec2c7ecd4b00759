"""A discrete-event simulation of an epoch, over the same action lists that the engine runs.

# Every rank is a generator. It yields an event and goes on once that has fired:
#
#   rank of stage 0    _act F0 | _send | _act F1 | _send | ...
#                                  | transfer fires "row" of chunk 0
#   rank of stage 1    waits ........ _act F0 | _send | ...
#
# Work and bytes occupy a `Shared` resource: the cores of a machine, a host's way out, its memory bus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import Literal

from gnnpipe.planner.events import Clock, Event, Shared, core_rate
from gnnpipe.planner.hardware import Hardware, Link
from gnnpipe.planner.workload import EngineKind, Work, num_steps, step_of
from gnnpipe.schedule.actions import Action
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.timeline import HaloWait, RankTimeline, Span, Timeline


@dataclass(frozen=True)
class Simulated:
    """Result of a simulated epoch."""

    seconds: float
    timeline: Timeline
    busy: float
    """Seconds that the busiest rank would compute if it had a core for itself."""


def simulate(plan: Plan, work: Work, hardware: Hardware, engine: EngineKind = "ours") -> Simulated:
    """Simulate an epoch of a plan on hardware that need not be at hand.

    Computation, messages between stages, exchanges between parts and the all-reduce of weights' gradients
    compete for the cores of a host, its network link, and, where devices have no links of their own, its
    memory bus. A resource serves all its users at the same rate. Parts that are alike are simulated as one.

    Args:
        plan: the plan whose schedule is run.
        work: seconds and bytes of each action.
        hardware: devices, links and cores.
        engine: ``ours`` sends while it computes. ``original`` is the published system: ranks wait for their
            messages, and all ranks meet at a barrier behind every step.

    Raises:
        ValueError: the schedule deadlocks; the message names the stages that wait.
    """
    return _Simulation(plan, work, hardware, engine).run()


Steps = Generator[Event, None, None]
"""A rank's run through its actions: it yields each event that it waits for."""
Done = Callable[[], None]
"""Callback for the end of some work or transfer."""


class _Simulation:
    def __init__(self, plan: Plan, work: Work, hardware: Hardware, engine: EngineKind) -> None:
        self.plan, self.work, self.hardware, self.engine = plan, work, hardware, engine
        self.schedule = plan.schedule
        self.clock = Clock()
        # Ranks that one simulated rank stands for: parts that are alike do the same at the same time, so only
        # part 0 is simulated, and it uses a resource as often as there are parts on it.
        self.alike = 1 if work.part_scale else plan.num_parts
        on_machine = min(plan.num_ranks, hardware.devices_per_host * hardware.hosts_per_machine)
        cores = hardware.cores_per_host
        # Parts of one stage wait in an exchange together, which leaves cores free; other stages compute on.
        self.crowded = cores is not None and on_machine > cores and plan.num_stages > 1
        crowded, usual = hardware.crowded_message_seconds, hardware.message_start_seconds
        self.message_start = 2 * (crowded if self.crowded else usual)  # sender and receiver
        self.events: dict[Hashable, Event] = {}
        # arrivals so far at an exchange or a barrier
        self.counts: dict[Hashable, int] = {}
        self.shared: dict[Hashable, Shared] = {}
        # transfers from one rank to another that have not arrived, in the order of their sends
        self.queues: dict[tuple[int, int], deque[Done]] = {}
        # what each rank waits for, or waited for last: to name ranks in a deadlock
        self.waits: dict[int, str] = {}
        self.spans: dict[int, list[Span]] = {}
        self.finished: dict[int, float] = {}

    def run(self) -> Simulated:
        # all ranks go as far as they can at time 0; from then on events make them go on
        parts = self.plan.num_parts // self.alike
        ranks = [(stage, part) for stage in range(self.plan.num_stages) for part in range(parts)]
        for stage, part in ranks:
            self._resume(self._rank(stage, part))
        self.clock.run()
        if len(self.finished) < len(ranks):
            stuck = sorted(self.waits.keys() - self.finished.keys())
            waiting = ", ".join(self.waits[rank] for rank in stuck)
            raise ValueError(f"the schedule deadlocks: {waiting}")
        # parts that were not simulated took as long as the one that stands for them
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
        """Let a rank go on until it waits for an event that has not fired yet; the event then resumes it."""
        for event in steps:
            if event.at is None:
                event.waiting.append(lambda: self._resume(steps))
                return

    def event(self, *key: Hashable) -> Event:
        """The event of that key; whoever asks first, sender or receiver, makes it."""
        return self.events.setdefault(key, Event())

    def fire(self, event: Event) -> None:
        event.at = self.clock.now
        waiting, event.waiting = event.waiting, []
        for call in waiting:
            call()

    def compute(self, rank: int, seconds: float) -> Event:
        """Start computation of a rank, on a core it may have to share; the event fires at its end."""
        done = Event()
        cores = self.hardware.cores_per_host
        if not seconds:
            done.at = self.clock.now
        elif cores is None:
            self.clock.after(seconds, lambda: self.fire(done))
        else:
            self._on_cores(cores, rank, seconds, lambda: self.fire(done))
        return done

    def pause(self, seconds: float) -> Event:
        """An event that fires ``seconds`` from now; no resource is occupied meanwhile."""
        done = Event()
        self.clock.after(seconds, lambda: self.fire(done))
        return done

    def _on_cores(self, cores: int, rank: int, seconds: float, done: Done) -> None:
        """Occupy the machine's cores with work of a rank, and of all that it stands for on that machine."""
        hardware = self.hardware
        together = min(self.alike, hardware.devices_per_host * hardware.hosts_per_machine)
        rate = core_rate(cores, hardware.contention, hardware.crowding)
        self._resource(("cores", hardware.machine_of(rank)), rate).add(seconds, together, done)

    def transfer(self, source: int, target: int, size: float, done: Done) -> None:
        """Send bytes from a rank to another one; messages of a pair travel one after the other, in order."""
        inside = self.hardware.host_of(source) == self.hardware.host_of(target)
        queue = self.queues.setdefault((source, target), deque())

        def arrived() -> None:
            queue.popleft()
            if queue:
                queue[0]()
            done()

        # only the first of the queue travels; its arrival starts the next one
        queue.append(lambda: self._carry(source, size, arrived, inside=inside, start=self.message_start))
        if len(queue) == 1:
            queue[0]()

    def _carry(self, rank: int, size: float, done: Done, *, inside: bool, start: float = 0.0) -> None:
        """Send bytes of a rank, and of all that it stands for on its host, over the path they share.

        On hosts of cores a message occupies these too, and has arrived when both are done:

            latency | bytes over the link   |
            cores: start, copies  |         | done
        """
        if not size:
            done()
            return
        link: Link = self.hardware.local if inside else self.hardware.network
        together = min(self.alike, self.hardware.devices_per_host)
        path = ("local" if inside else "network", self.hardware.host_of(rank))
        if inside and not self.hardware.shares_local:  # a link for each device, as NVLink
            together, path = 1, ("device", rank)
        resource = self._resource(path, lambda users: link.bandwidth / users)
        # twice: whoever sends receives as much, sooner or later
        cost = start + 2 * size * self.hardware.message_seconds
        # a list, as `carried` counts it down: the link and, on cores, the copies
        cores = self.hardware.cores_per_host
        left = [2 if cores and cost else 1]

        def carried() -> None:
            left[0] -= 1
            if not left[0]:
                done()

        if cores and cost:
            self._on_cores(cores, rank, cost, carried)
        self.clock.after(link.latency, lambda: resource.add(size, together, carried))

    def _resource(self, key: Hashable, rate: Callable[[float], float]) -> Shared:
        if key not in self.shared:
            self.shared[key] = Shared(self.clock, rate)
        return self.shared[key]

    def exchange(self, stage: int, part: int, size: float, *key: Hashable) -> Event:
        """Send a part's share of an all-to-all inside its stage; the event fires when all have sent theirs.

        Each part sends ``size`` bytes in all, spread evenly over the other parts: those on the same host get
        theirs over its bus, the rest goes out over the network. Both shares count as one arrival each.
        """
        plan, event = self.plan, self.event("halo", stage, *key)
        rank = stage * plan.num_parts + part
        hosts = [self.hardware.host_of(stage * plan.num_parts + peer) for peer in range(plan.num_parts)]
        num_near = hosts.count(self.hardware.host_of(rank)) - 1
        inside = size * num_near / max(plan.num_parts - 1, 1)

        def arrived() -> None:
            count = self.counts[stage, key] = self.counts.get((stage, key), 0) + 1
            if count == 2 * plan.num_parts // self.alike:
                self.fire(event)

        self._carry(rank, inside, arrived, inside=True)
        self._carry(rank, size - inside, arrived, inside=False)
        return event

    def _rank(self, stage: int, part: int) -> Steps:
        """Run a rank's actions in order, as the engine does, and note when each began and ended."""
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
            # gradients of weights come after the send: the neighbour waits for rows, nobody for these
            if action.kind == "B":
                yield self.compute(rank, self._share(stage, action) * scale * self._sum(stage, "products"))
            spans.append(Span(asked, start, self.clock.now, tuple(waits)))
        if self.engine == "original":
            # a stage that is done still meets the others in the steps that are left
            for step in range(step_of(self.plan, stage, len(spans)), num_steps(self.plan)):
                yield from self._barrier_at(step, rank)
        if self.plan.num_parts > 1:
            self.waits[rank] = f"stage {stage} waits for the sum of weights"
            yield self.exchange(stage, part, self.work.weights, "weights")
        self.finished[rank] = self.clock.now

    def _act(
        self, stage: int, part: int, action: Action, scale: float, index: int, waits: list[HaloWait]
    ) -> Steps:
        """Run a chunk through the layers of a stage, with the exchanges between its parts.

        # ours      put | post ==== boundary rows travel ====> | finish       take: edges inside the part,
        #               | take .... | wait ................... |              aggregated while rows travel
        # original  put | post | wait ========================> | take and finish
        """
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
            # boundary rows grow with a chunk's work, but not with a part's
            event = self.exchange(stage, part, share / scale * size, index, number)
            if self.engine == "ours":
                yield self.compute(rank, share * take)
            asked = self.clock.now
            self.waits[rank] = f"stage {stage} waits for other parts' rows in {action}"
            yield event
            if self.crowded:  # rows are here, but another rank has the core
                yield self.pause(self.hardware.turn_seconds)
            waits.append(HaloWait(posted, asked, self.clock.now))
            yield self.compute(rank, share * (finish if self.engine == "ours" else take + finish))

    def _send(self, stage: int, part: int, action: Action) -> Steps:
        """Send the chunk that leaves, if any does, to the next stage in its direction."""
        target, position = stage + 1 if action.kind == "F" else stage - 1, action.leaves
        if position is None or not 0 <= target < self.plan.num_stages:
            return
        event = self.event("row", target, part, action.kind, position)
        parts = self.plan.num_parts
        size = self.work.message * (self.work.chunk_scale[position] if self.work.chunk_scale else 1.0)
        self.transfer(stage * parts + part, target * parts + part, size, lambda: self.fire(event))
        if self.engine == "original":
            yield event

    def _share(self, stage: int, action: Action) -> float:
        """Work of an action in units of all layers of the stage on a mean chunk."""
        # with lookahead an action runs each layer on another chunk, at the ends only some of the layers
        first, last = self.plan.layer_ranges[stage]
        scale = self.work.chunk_scale
        taken = sum(scale[position] for position in action.taken) if scale else action.num_taken
        return taken / (last - first)

    def _sum(self, stage: int, kind: Literal["forward", "backward", "products"]) -> float:
        return sum(getattr(layer, kind) for layer in self.work.layers[stage])

    def _barrier(self, stage: int, index: int, rank: int) -> Steps:
        """Meet all ranks before each step since the rank's last one, as the idle ranks of a step meet too."""
        done = step_of(self.plan, stage, index - 1) + 1 if index else 0
        for step in range(done, step_of(self.plan, stage, index) + 1):
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
