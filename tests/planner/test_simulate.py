"""The simulation obeys what must hold on any machine, and equals closed forms where there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.planner.hardware import GIB, REFERENCE, Hardware, Link
from gnnpipe.planner.simulate import _Simulation, simulate
from gnnpipe.planner.workload import LayerWork, Work
from gnnpipe.schedule.actions import Schedule
from gnnpipe.schedule.plan import Plan, make_plan
from gnnpipe.schedule.timeline import breakdowns

ENDLESS = Link(0.0, 1e18)
MACHINE = Hardware("test", "made up", 4, GIB, REFERENCE, ENDLESS, ENDLESS, shares_local=False)


def balanced(plan: Plan, forward: float, backward: float, message: float = 0.0) -> Work:
    """Every stage costs as much, and nothing is exchanged between parts."""
    layers = []
    for first, last in plan.layer_ranges:
        share = 1 / (last - first)
        layers.append((LayerWork(0, forward * share, 0, 0, backward * share, 0, 0),) * (last - first))
    return Work(tuple(layers), message, 0.0)


@st.composite
def works(draw: st.DrawFn) -> tuple[Plan, Work]:
    stages, parts, chunks = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    plan = make_plan(stages, parts, chunks, draw(st.integers(stages, 6)), 100)
    seconds = st.floats(0.01, 2.0)
    layers = tuple(
        tuple(
            LayerWork(
                *(draw(seconds) for _ in range(7)),
                halo=draw(st.floats(0, 9)),
                halo_back=draw(st.floats(0, 9)),
            )
            for _ in range(last - first)
        )
        for first, last in plan.layer_ranges
    )
    scales = draw(st.sampled_from([(), (1.0,) * parts, tuple(1 + part / 10 for part in range(parts))]))
    return plan, Work(layers, draw(st.floats(0, 9)), draw(st.floats(0, 3)), part_scale=scales)


def alone_on_their_links(plan: Plan, work: Work) -> tuple[Plan, Work]:
    """One part, or one stage: where messages of several kinds share a link, one that comes earlier may hold
    up one that matters more, and what ought to help may hurt (Graham's anomalies)."""
    if plan.num_stages == 1:
        return plan, work
    return replace(plan, num_parts=1), replace(work, part_scale=work.part_scale[:1])


@st.composite
def machines(draw: st.DrawFn) -> Hardware:
    link = st.builds(Link, st.floats(0, 0.1), st.floats(0.5, 100))
    return replace(
        MACHINE,
        local=draw(link),
        network=draw(link),
        devices_per_host=draw(st.integers(1, 4)),
        cores_per_host=draw(st.sampled_from([None, 1, 2, 4])),
        contention=draw(st.floats(1, 1.5)),
        crowding=draw(st.floats(1, 1.5)),
        message_seconds=draw(st.sampled_from([0.0, 0.01])),
        message_start_seconds=draw(st.sampled_from([0.0, 0.1])),
        crowded_message_seconds=draw(st.sampled_from([0.0, 0.1])),
        shares_local=draw(st.booleans()),
    )


@given(st.integers(1, 6), st.integers(1, 12), st.floats(0.1, 2), st.floats(0.1, 2))
def test_a_balanced_pipeline_takes_what_the_formula_says(
    stages: int, chunks: int, f: float, b: float
) -> None:
    """(K + S - 1) (tf + tb)."""
    plan = make_plan(stages, 1, chunks, 6, 100)
    found = simulate(plan, balanced(plan, f, b), MACHINE)
    assert found.seconds == pytest.approx((chunks + stages - 1) * (f + b))
    shares = breakdowns(found.timeline, plan.schedule, found.seconds)
    assert sum(item.bubble for item in shares) / (stages * found.seconds) == pytest.approx(
        plan.bubble, abs=1e-9
    )


@given(works(), machines())
@settings(max_examples=50)
def test_no_faster_than_the_busiest_rank_and_the_critical_path(
    case: tuple[Plan, Work], machine: Hardware
) -> None:
    plan, work = case
    found = simulate(plan, work, machine)
    tolerance = 1 - 1e-9  # sums of floats in another order
    assert found.seconds >= found.busy * tolerance
    way = sum(layer.forward + layer.backward for stage in work.layers for layer in stage)
    assert found.seconds >= way * min(work.part_scale, default=1.0) * tolerance
    if machine.cores_per_host:
        hosts = -(-plan.num_ranks // machine.devices_per_host)
        scale = sum(work.part_scale) if work.part_scale else plan.num_parts
        each = sum(
            layer.forward + layer.backward + layer.products for stage in work.layers for layer in stage
        )
        assert found.seconds >= plan.num_chunks * each * scale / (hosts * machine.cores_per_host) * tolerance
    parts = breakdowns(found.timeline, plan.schedule, found.seconds)
    for item in parts:
        total = (
            item.compute + item.bubble + item.imbalance + item.communication_layer + item.communication_graph
        )
        assert total + item.other == pytest.approx(found.seconds)
        assert min(item.bubble, item.imbalance, item.communication_layer, item.communication_graph) >= -1e-9


@given(works(), machines(), st.floats(1, 50))
@settings(max_examples=50)
def test_more_bandwidth_never_slows_a_pipeline(
    case: tuple[Plan, Work], machine: Hardware, factor: float
) -> None:
    plan, work = alone_on_their_links(*case)
    machine = replace(machine, cores_per_host=None, devices_per_host=1)
    faster = replace(
        machine,
        local=replace(machine.local, bandwidth=machine.local.bandwidth * factor),
        network=replace(machine.network, bandwidth=machine.network.bandwidth * factor),
    )
    assert simulate(plan, work, faster).seconds <= simulate(plan, work, machine).seconds * (1 + 1e-9)


@given(works(), machines())
@settings(max_examples=50)
def test_barriers_and_bare_messages_never_help(case: tuple[Plan, Work], machine: Hardware) -> None:
    plan, work = alone_on_their_links(*case)
    machine = replace(machine, cores_per_host=None, devices_per_host=1)
    original, ours = (simulate(plan, work, machine, engine).seconds for engine in ("original", "ours"))  # type: ignore[arg-type]
    assert original >= ours * (1 - 1e-9)


def test_a_core_for_two_takes_twice_as_long() -> None:
    plan = make_plan(2, 1, 40, 2, 100)
    work = balanced(plan, 1.0, 1.0)
    alone = simulate(plan, work, MACHINE).seconds
    shared = simulate(plan, work, replace(MACHINE, cores_per_host=1)).seconds
    assert shared == pytest.approx(2 * 40 * 2)  # always one of the two has work
    assert alone == pytest.approx(2 * 41)
    slower = replace(MACHINE, cores_per_host=2, contention=1.25)
    assert simulate(plan, work, slower).seconds == pytest.approx(2 * (39 * 1.25 + 2))


def test_more_ranks_than_cores_lose_more() -> None:
    plan = make_plan(2, 1, 40, 2, 100)
    work = balanced(plan, 1.0, 1.0, message=0.5)

    def seconds(cores: int, crowding: float, each: float) -> float:
        machine = replace(MACHINE, local=Link(0.0, 1e3), cores_per_host=cores, crowding=crowding)
        return simulate(plan, work, replace(machine, crowded_message_seconds=each)).seconds

    alone = seconds(1, 1.0, 0.0)
    # all but the first and the last action of each direction share the core with the other rank's
    assert seconds(1, 1.2, 0.0) == pytest.approx(1.2 * (alone - 4) + 4, rel=1e-3)
    # 40 messages each way, with two ends
    assert seconds(1, 1.0, 0.1) == pytest.approx(alone + 2 * 40 * 2 * 0.1, rel=1e-3)
    assert seconds(2, 1.2, 0.1) == seconds(2, 1.0, 0.0)  # a core each


def test_a_message_takes_cores_however_short_it_is() -> None:
    plan = make_plan(2, 1, 40, 2, 100)
    work = balanced(plan, 1.0, 1.0, message=0.5)

    def seconds(cores: int | None, each: float) -> float:
        machine = replace(MACHINE, local=Link(0.0, 1e3), cores_per_host=cores)
        return simulate(plan, work, replace(machine, message_start_seconds=each)).seconds

    # two cores are busy with both ranks, but for the first and the last action of each direction, so that
    # both ends of 40 messages each way are shared out between them
    assert seconds(2, 0.1) == pytest.approx(seconds(2, 0.0) + 2 * 40 * 2 * 0.1 / 2, rel=0.01)
    assert seconds(1, 0.1) == seconds(1, 0.0)  # crowded ranks have a figure of their own
    assert seconds(None, 0.1) == seconds(None, 0.0)  # devices of their own


def test_messages_hide_behind_computation_until_they_are_longer() -> None:
    plan = make_plan(2, 1, 10, 2, 100)
    machine = replace(MACHINE, local=Link(0.0, 1.0))
    hidden = simulate(plan, balanced(plan, 1.0, 1.0, message=0.5), machine).seconds
    assert hidden == pytest.approx(2 * 11 + 2 * 0.5)  # one on the way down, one on the way up
    exposed = simulate(plan, balanced(plan, 1.0, 1.0, message=2.0), machine).seconds
    assert exposed > 2 * 10 * 2.0
    original = simulate(plan, balanced(plan, 1.0, 1.0, message=0.5), machine, "original").seconds
    assert original == pytest.approx(2 * (11 + 10 * 0.5), rel=0.05)  # every step waits for its message


def test_ranks_of_other_stages_keep_the_cores() -> None:
    layer = LayerWork(0.1, 0.5, 0.2, 0.1, 0.4, 0.2, 0.1, 3.0, 2.0)
    slow = replace(MACHINE, local=Link(0.01, 10.0), cores_per_host=2)

    def seconds(stages: int, parts: int, turn: float) -> float:
        plan = make_plan(stages, parts, 2, 2, 100)
        work = Work(((layer,) * (2 // stages),) * stages, 1.0, 2.0)
        return simulate(plan, work, replace(slow, turn_seconds=turn)).seconds

    assert seconds(2, 2, 0.5) > seconds(2, 2, 0.0)  # four ranks on two cores
    assert seconds(1, 4, 0.5) == seconds(1, 4, 0.0)  # all of them wait for the same rows
    assert seconds(1, 2, 0.5) == seconds(1, 2, 0.0)  # a core each


def test_parts_that_are_alike_are_simulated_as_one() -> None:
    plan = make_plan(2, 3, 4, 4, 100)
    layer = LayerWork(0.1, 0.5, 0.2, 0.1, 0.4, 0.2, 0.1, 3.0, 2.0)
    for cores in (None, 2, 6):
        machine = replace(
            MACHINE, devices_per_host=6, cores_per_host=cores, local=Link(0.01, 10.0), shares_local=True
        )
        one = simulate(plan, Work(((layer,) * 2,) * 2, 1.0, 2.0), machine)
        each = simulate(plan, Work(((layer,) * 2,) * 2, 1.0, 2.0, part_scale=(1.0,) * 3), machine)
        assert one.seconds == pytest.approx(each.seconds)
        assert len(one.timeline) == len(each.timeline) == 6


@pytest.mark.parametrize("lookahead", [1, 2])
def test_lookahead_takes_what_the_dry_run_says(lookahead: int) -> None:
    plan = replace(make_plan(3, 1, 8, 6, 100), lookahead=lookahead)
    work = balanced(plan, 2.0, 2.0)  # a layer costs 1
    assert simulate(plan, work, MACHINE).seconds == pytest.approx(plan.makespan())


def test_more_chunks_than_a_start_is_worth_are_slower() -> None:
    """T(K) = (K + S - 1)(t0 + w / K) is least at sqrt((S - 1) w / t0)."""
    start, total, seconds = 0.01, 1.0, {}
    for chunks in (2, 5, 10, 20, 50):
        plan = make_plan(2, 1, chunks, 2, 100)
        seconds[chunks] = simulate(plan, balanced(plan, start + total / chunks, 0.0), MACHINE).seconds
    assert min(seconds, key=lambda chunks: seconds[chunks]) == 10
    assert all(one > other for one, other in pairwise([seconds[2], seconds[5], seconds[10]]))


class Stuck(Plan):
    """A plan whose first stage wants gradients before it has handed all rows on."""

    @property
    def schedule(self) -> Schedule:
        good = super().schedule
        first = list(good.stages[0])
        first[1], first[-1] = first[-1], first[1]
        return replace(good, stages=(tuple(first), *good.stages[1:]))


def test_a_deadlock_is_named() -> None:
    plan = make_plan(2, 1, 3, 2, 100)
    stuck = Stuck(**{item.name: getattr(plan, item.name) for item in fields(plan)})
    with pytest.raises(ValueError, match=r"deadlocks: stage 0 waits for .* B0, stage 1 waits for .* F1"):
        simulate(stuck, balanced(plan, 1.0, 1.0), MACHINE)


@given(works(), machines())
@settings(max_examples=50)
def test_every_byte_of_a_pipeline_arrives_once(case: tuple[Plan, Work], machine: Hardware) -> None:
    """What is handed over is all chunks over all boundaries, both ways."""
    plan, work = case
    sent: list[float] = []
    simulation = _Simulation(plan, work, machine, "ours")
    carry = simulation.transfer

    def counted(source: int, target: int, size: float, done: Callable[[], None]) -> None:
        carry(source, target, size, lambda: (sent.append(size), done())[1])

    simulation.transfer = counted  # type: ignore[method-assign]
    simulation.run()
    parts = len(work.part_scale) or 1  # parts that are alike are simulated as one
    assert sum(sent) == pytest.approx(2 * (plan.num_stages - 1) * plan.num_chunks * parts * work.message)
