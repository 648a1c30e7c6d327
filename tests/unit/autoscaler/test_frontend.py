"""The self-scaling rule of the front end, as tables, as stories in virtual time and as properties."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.frontend_policy import LESSON_S, FrontEndDecision, FrontEndRule, FrontEndState, decide
from autoscaler.frontend_settings import ClusterPurpose, FrontEndLoad, FrontEndSettings, RouterLoad, Size, WorkerLoad
from autoscaler.policy import Direction

PRODUCTION = FrontEndSettings(max_routers=5)
ONE_MACHINE = FrontEndSettings(min_routers=1, max_routers=1)
FAST_S, SLOW_S = 0.0001, 0.008


def router(*times_s: float | None, cpu: float = 0.6, silent: int = 0) -> RouterLoad:
    """One router with workers of this time to route; None: without requests."""
    return RouterLoad(len(times_s) + silent, tuple(WorkerLoad(time_s, cpu) for time_s in times_s))


def seen(*routers: RouterLoad, cores: int = 4, room: bool = True) -> FrontEndLoad:
    return FrontEndLoad(routers, cores, room)


def alike(size: Size, time_s: float, cpu: float, cores: int = 4, room: bool = True) -> FrontEndLoad:
    """Every worker of a front end of this size tells the same."""
    return seen(*[router(*[time_s] * size.workers, cpu=cpu)] * size.routers, cores=cores, room=room)


class Told:
    """The rule at work: remembers the state from decision to decision."""

    def __init__(self, size: Size, rules: FrontEndSettings = PRODUCTION) -> None:
        self.state = FrontEndState(size)
        self.rules = rules

    def sees(self, load: FrontEndLoad, now: float) -> FrontEndDecision:
        self.state, decision = decide(self.rules, self.state, load, now)
        return decision

    def for_(self, seconds: float, load: FrontEndLoad, start_s: float = 0.0) -> FrontEndDecision:
        """This for a while, looked at each period; the last decision."""
        for step in range(int(seconds / self.rules.period_s) + 1):
            decision = self.sees(load, start_s + step * self.rules.period_s)
        return decision


# ---- one decision

SIZE = Size(2, 3)
FAST, SLOW = router(FAST_S, FAST_S), router(SLOW_S, SLOW_S)
TABLE = {
    "all are slow": (SIZE, seen(SLOW, SLOW, SLOW), (3, 3), FrontEndRule.ROUTING),
    "half of them are slow": (SIZE, seen(SLOW, router(SLOW_S, FAST_S), FAST), (3, 3), FrontEndRule.ROUTING),
    "one has a bad neighbour": (SIZE, seen(SLOW, FAST, FAST), (2, 3), FrontEndRule.ENOUGH),
    "a lag of the loop is routing": (
        SIZE,
        seen(*[RouterLoad(2, (WorkerLoad(FAST_S, 1.0, loop_lag_s=0.004),) * 2)] * 3),
        (3, 3),
        FrontEndRule.ROUTING,
    ),
    "a core that is used up is slow, however soon its worker routes": (
        SIZE,
        seen(*[router(FAST_S, FAST_S, cpu=0.96)] * 3),
        (3, 3),
        FrontEndRule.ROUTING,
    ),
    "a core that is used up without a request is not": (
        SIZE,
        seen(*[router(None, None, cpu=1.0)] * 3),
        (2, 3),
        FrontEndRule.ENOUGH,
    ),
    "all are slow on every core": (SIZE, seen(SLOW, SLOW, SLOW, cores=2), (2, 4), FrontEndRule.ROUTING),
    "no room": (SIZE, seen(SLOW, SLOW, SLOW, cores=2, room=False), (2, 3), FrontEndRule.NO_ROOM),
    "as many routers as may be": (Size(2, 5), alike(Size(2, 5), SLOW_S, 1.0, cores=2), (2, 5), FrontEndRule.LIMIT),
    "room is not asked for a worker": (SIZE, seen(SLOW, SLOW, SLOW, room=False), (3, 3), FrontEndRule.ROUTING),
    "the silent ones are not known to be slow": (
        SIZE,
        seen(SLOW, router(silent=2), router(silent=2)),
        (2, 3),
        FrontEndRule.INCOMPLETE,
    ),
    "enough of them are slow whatever the silent ones are": (
        SIZE,
        seen(SLOW, router(SLOW_S, silent=1), router(silent=2)),
        (3, 3),
        FrontEndRule.ROUTING,
    ),
    "idle ones have routed nothing, not slowly": (
        SIZE,
        seen(*[router(None, None, cpu=0.0)] * 3),
        (2, 3),
        FrontEndRule.ENOUGH,
    ),
    "nobody is there": (SIZE, seen(), (2, 3), FrontEndRule.INCOMPLETE),
    "fewer cores are allowed now": (SIZE, seen(FAST, FAST, FAST, cores=1), (1, 3), FrontEndRule.BOUNDS),
    "more routers than may be": (Size(1, 9), alike(Size(1, 9), FAST_S, 0.6), (1, 5), FrontEndRule.BOUNDS),
    "fewer routers than production has": (Size(1, 1), alike(Size(1, 1), FAST_S, 0.6), (1, 3), FrontEndRule.BOUNDS),
}


@pytest.mark.parametrize(("size", "load", "desired", "rule"), TABLE.values(), ids=TABLE)
def test_slowness_for_a_second_decides(
    size: Size, load: FrontEndLoad, desired: tuple[int, int], rule: FrontEndRule
) -> None:
    told = Told(size)
    first, second = told.sees(load, 10.0), told.sees(load, 10.5)
    decisive = first if rule is FrontEndRule.BOUNDS else second
    assert (decisive.workers, decisive.routers, decisive.rule) == (*desired, rule)
    assert (decisive.direction is Direction.HOLD) == (decisive.desired == size)


def test_slow_for_a_moment_is_not_slow() -> None:
    told = Told(Size(1, 3))
    for now in range(60):
        decision = told.sees(alike(Size(1, 3), FAST_S if now % 2 else SLOW_S, 0.6), now / 2)
        assert decision.desired == Size(1, 3)


def test_a_look_that_comes_a_hair_early_costs_no_further_look() -> None:
    told = Told(Size(1, 1), ONE_MACHINE)
    assert told.sees(alike(Size(1, 1), SLOW_S, 0.6), 10.001).workers == 1
    assert told.sees(alike(Size(1, 1), SLOW_S, 0.6), 10.5).workers == 2


def test_short_slowness_now_and_then_does_not_keep_unneeded_workers() -> None:
    told = Told(Size(2, 1), ONE_MACHINE)
    moves = [
        told.sees(alike(Size(2, 1), SLOW_S if now % 40 == 0 else FAST_S, 0.05), now / 2).workers for now in range(125)
    ]
    assert moves.index(1) == 121  # a minute of looks after the first


def test_slowness_for_a_second_once_a_minute_keeps_the_workers() -> None:
    told = Told(Size(2, 1), ONE_MACHINE)
    for now in range(400):
        decision = told.sees(alike(Size(2, 1), SLOW_S if now % 100 < 2 else FAST_S, 0.05, cores=2), now / 2)
        assert decision.workers == 2


def test_a_worker_too_busy_to_answer_does_not_hide_that_it_was_slow() -> None:
    told = Told(Size(1, 1), ONE_MACHINE)
    story = [router(SLOW_S), router(silent=1), router(SLOW_S)]
    assert [told.sees(seen(load), now / 2).workers for now, load in enumerate(story)] == [1, 1, 2]


@pytest.mark.parametrize("purpose", ClusterPurpose)
@pytest.mark.parametrize("load", [SLOW_S, FAST_S], ids=["slow", "idle"])
def test_only_the_front_end_of_a_dev_test_cluster_never_scales_itself(purpose: ClusterPurpose, load: float) -> None:
    rules = FrontEndSettings(purpose, min_routers=1)
    size = Size(2, 2)
    told = Told(size, rules)
    moved = {told.sees(alike(size, load, 0.0), now / 2).desired != size for now in range(1000)}
    assert moved == ({False} if purpose is ClusterPurpose.DEV_TEST else {False, True})
    assert (told.sees(alike(size, load, 0.0), 500.0).rule == FrontEndRule.OFF) == (purpose is ClusterPurpose.DEV_TEST)


def test_production_has_three_routers_at_least_and_dev_test_one() -> None:
    assert FrontEndSettings().least_routers == 3
    assert FrontEndSettings(ClusterPurpose.DEV_TEST).least_routers == 1
    assert FrontEndSettings(min_routers=2).least_routers == 2


# ---- down and in


def test_one_worker_goes_after_a_minute_of_less_than_half_a_core_for_each_of_the_rest() -> None:
    size = Size(3, 3)
    told = Told(size)
    steps = [(now / 2, told.sees(alike(size, FAST_S, 1 / 3), now / 2)) for now in range(1, 130)]
    moves = [(at_s, decision.desired, decision.rule) for at_s, decision in steps if decision.desired != size]
    assert moves[0] == (60.5, Size(2, 3), FrontEndRule.CPU)


@pytest.mark.parametrize(
    ("size", "cpu", "goes"),
    [
        (Size(2, 3), 0.25, True),
        (Size(2, 3), 0.26, False),
        (Size(4, 3), 0.375, True),
        (Size(4, 3), 0.38, False),
        (Size(1, 4), 0.225, True),
        (Size(1, 4), 0.23, False),
        (Size(1, 3), 0.0, False),
        (Size(2, 4), 0.26, False),  # by CPU a router could go, but first down, then in
    ],
)
def test_a_step_back_must_leave_the_rest_below_the_threshold(size: Size, cpu: float, goes: bool) -> None:
    told = Told(size)
    rules = told.rules
    for now in range(int(rules.in_after_s * 2) + 2):
        decision = told.sees(alike(size, FAST_S, cpu), now / 2)
        if decision.direction is not Direction.HOLD:
            assert goes and decision.direction is Direction.DOWN
            assert (decision.workers < size.workers) != (decision.routers < size.routers)
            return
    assert not goes


def test_a_busy_router_among_idle_ones_keeps_its_workers() -> None:
    told = Told(Size(2, 3))
    load = seen(router(FAST_S, FAST_S, cpu=0.4), router(None, None, cpu=0.0), router(None, None, cpu=0.0))
    assert told.for_(400.0, load).desired == Size(2, 3)


def test_down_comes_before_in_and_neither_goes_below_the_least() -> None:
    size, told, moves = Size(3, 5), Told(Size(3, 5)), []
    for now in range(4000):
        decision = told.sees(alike(size, FAST_S, 0.0), now / 2)
        if decision.desired != size:
            size = decision.desired
            moves.append((now / 2, size))
    assert [moved for _, moved in moves] == [Size(2, 5), Size(1, 5), Size(1, 4), Size(1, 3)]
    assert [at_s for at_s, _ in moves] == [60.0, 120.5, 421.0, 721.5]  # a whole window from the look after each step


def test_missing_data_gives_nothing_back_and_nor_does_its_end() -> None:
    told, size = Told(Size(2, 1), ONE_MACHINE), Size(2, 1)
    told.for_(59.0, alike(size, FAST_S, 0.0))
    for now in range(200):
        decision = told.sees(seen(router(FAST_S, cpu=0.0, silent=1)), 60.0 + now / 2)
        assert (decision.desired, decision.rule) == (size, FrontEndRule.INCOMPLETE)
    lowered = [now for now in range(200) if told.sees(alike(size, FAST_S, 0.0), 160.0 + now / 2).workers == 1]
    assert lowered[0] / 2 == 60.0


def test_a_size_that_proved_too_small_is_not_tried_again_under_the_same_load() -> None:
    """On a crowded machine a worker may be slow with little of its core in use."""
    told = Told(Size(1, 1), ONE_MACHINE)
    assert told.for_(0.5, alike(Size(1, 1), SLOW_S, 0.4)).desired == Size(2, 1)
    decision = told.for_(300.0, alike(Size(2, 1), FAST_S, 0.2), 1.0)
    assert (decision.desired, decision.rule) == (Size(2, 1), FrontEndRule.LESSON)
    assert told.for_(61.0, alike(Size(2, 1), FAST_S, 0.1), 400.0).rule != FrontEndRule.LESSON
    assert told.state.size == Size(1, 1)


def test_a_size_below_one_that_proved_too_small_is_too_small_as_well() -> None:
    told = Told(Size(2, 3))
    told.for_(0.5, alike(Size(2, 3), SLOW_S, 0.1, cores=2))
    decision = told.for_(400.0, alike(Size(2, 4), FAST_S, 0.075, cores=2), 1.0)
    assert (decision.desired, decision.rule) == (Size(2, 4), FrontEndRule.LESSON)


def test_slow_for_a_second_begins_the_minute_anew() -> None:
    told, size = Told(Size(2, 1), ONE_MACHINE), Size(2, 1)
    told.for_(39.5, alike(size, FAST_S, 0.0))
    told.for_(0.5, alike(size, SLOW_S, 0.0, cores=2), 40.0)
    decisions = [(now / 2, told.sees(alike(size, FAST_S, 0.0), now / 2).workers) for now in range(82, 300)]
    assert next(at_s for at_s, workers in decisions if workers == 1) == 101.0


def test_a_lesson_is_forgotten_after_an_hour() -> None:
    told = Told(Size(1, 1), ONE_MACHINE)
    told.for_(0.5, alike(Size(1, 1), SLOW_S, 0.01))
    assert told.for_(LESSON_S - 10.0, alike(Size(2, 1), FAST_S, 0.005), 1.0).desired == Size(2, 1)
    told.for_(75.0, alike(Size(2, 1), FAST_S, 0.005), LESSON_S)
    assert told.state.size == Size(1, 1)


# ---- a step under way


def test_the_next_step_waits_until_the_last_one_is_there_and_is_judged_anew() -> None:
    told = Told(Size(1, 1), ONE_MACHINE)
    told.for_(0.5, alike(Size(1, 1), SLOW_S, 1.0))
    decision = told.for_(5.0, alike(Size(1, 1), SLOW_S, 1.0), 1.0)
    assert (decision.desired, decision.rule) == (Size(2, 1), FrontEndRule.UNDER_WAY)
    assert told.sees(alike(Size(2, 1), SLOW_S, 1.0), 6.5).rule == FrontEndRule.BRIEF
    assert told.sees(alike(Size(2, 1), SLOW_S, 1.0), 7.0).desired == Size(3, 1)


def test_a_step_that_never_comes_holds_up_the_next_for_a_minute_only() -> None:
    told = Told(Size(1, 3))
    size = Size(1, 3)
    told.for_(0.5, alike(size, SLOW_S, 1.0, cores=1))
    assert told.state.size == Size(1, 4)
    stays = alike(size, SLOW_S, 1.0, cores=2)  # the pod is pending; a core has come free meanwhile
    assert told.for_(59.0, stays, 1.0).desired == Size(1, 4)
    assert told.for_(2.0, stays, 60.5).desired == Size(2, 4)


def test_an_order_that_the_cluster_cannot_place_is_taken_back_when_the_load_is_gone() -> None:
    told = Told(Size(1, 3))
    told.for_(0.5, alike(Size(1, 3), SLOW_S, 1.0, cores=1))
    told.for_(400.0, alike(Size(1, 3), FAST_S, 0.0, cores=1, room=False), 1.0)
    assert told.state.size == Size(1, 3)


# ---- visible columns


@pytest.mark.parametrize(
    ("rules", "size", "load", "sentence"),
    [
        (
            PRODUCTION,
            Size(2, 3),
            seen(SLOW, router(SLOW_S, silent=1), router(FAST_S, FAST_S)),
            "3 of 6 workers take over 3 ms to route or 95 % of a core (slowest 8.0 ms, 1 did not answer), "
            "3.00 cores in use; slow for 0.5 s: up from 2 to 3 workers in each router.",
        ),
        (
            PRODUCTION,
            Size(1, 3),
            alike(Size(1, 3), SLOW_S, 1.0, cores=1),
            "slow for 0.5 s with a worker on every core allowed: out from 3 to 4 routers.",
        ),
        (
            ONE_MACHINE,
            Size(2, 1),
            alike(Size(2, 1), SLOW_S, 1.0, cores=2),
            "2 of 2 workers take over 3 ms to route or 95 % of a core (slowest 8.0 ms), 2.00 cores in use; "
            "allowed are 1 to 2 workers in each of 1 to 1 routers: stays at 2 workers in each of 1 router.",
        ),
        (
            PRODUCTION,
            Size(1, 3),
            alike(Size(1, 3), FAST_S, 0.6),
            "0 of 3 workers take over 3 ms to route or 95 % of a core (slowest 0.1 ms), 1.80 cores in use; "
            "that is the least there may be: stays at 1 worker in each of 3 routers.",
        ),
        (
            ONE_MACHINE,
            Size(1, 1),
            alike(Size(1, 1), FAST_S, 0.6),
            "0 of 1 worker takes over 3 ms to route or 95 % of a core (slowest 0.1 ms), 0.60 cores in use; "
            "that is the least there may be: stays at 1 worker in each of 1 router.",
        ),
    ],
)
def test_a_decision_says_why_with_its_numbers(
    rules: FrontEndSettings, size: Size, load: FrontEndLoad, sentence: str
) -> None:
    told = Told(size, rules)
    told.sees(load, 0.0)
    assert told.sees(load, 0.5).reason.endswith(sentence)


def test_steps_back_have_their_reason() -> None:
    told = Told(Size(2, 4))
    assert told.for_(60.0, alike(Size(2, 4), FAST_S, 0.1)).reason.endswith(
        "for 60 s one fewer would have used at most 50 % of each core: down from 2 to 1 worker in each router."
    )
    assert told.for_(300.0, alike(Size(1, 4), FAST_S, 0.1), 61.0).reason.endswith(
        "for 300 s one fewer would have used at most 30 % of each core: in from 4 to 3 routers."
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"routing_limit_s": 0.0}, r"routing_limit_s must be finite and above 0, not 0\.0"),
        ({"period_s": float("nan")}, "period_s must be finite and above 0, not nan"),
        ({"down_cpu": 1.5}, r"down_cpu must be above 0 and at most 1, not 1\.5"),
        ({"full_cpu": 0.0}, r"full_cpu must be above 0 and at most 1, not 0\.0"),
        ({"min_routers": 0}, "min_routers must be at least 1, not 0"),
        ({"max_routers": 2}, "max_routers must be at least 3, not 2"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FrontEndSettings(**wrong)


# ---- stories in virtual time


@dataclass
class World:
    """Routers with workers that slow down near the limit of their core, and with a start-up time."""

    rules: FrontEndSettings
    size: Size
    demand: Callable[[float], float]
    """Cores of work at a time."""
    cores: int = 4
    knee: float = 0.9
    """Share of its core at which a worker becomes slow."""
    share: float = 1.0
    """Of its core, the most available to a worker: less beside greedy neighbours."""
    worker_start_s: float = 1.0
    router_start_s: float = 20.0
    now: float = 0.0
    moves: list[tuple[float, Size]] = field(default_factory=list)
    arrives_s: float = 0.0

    def __post_init__(self) -> None:
        self.there = self.began = self.size
        self.state = FrontEndState(self.size)

    def run(self, until_s: float) -> "World":
        while self.now < until_s:
            if self.there != self.size and self.now >= self.arrives_s:
                self.there = self.size
            self.state, decision = decide(self.rules, self.state, self._load(), self.now)
            assert decision.previous == self.size
            if decision.desired != self.size:
                out = decision.routers > self.size.routers
                start_s = self.router_start_s if out else self.worker_start_s
                self.arrives_s = self.now + start_s
                self.size = decision.desired
                self.moves.append((self.now, self.size))
            self.now += self.rules.period_s
        return self

    def _load(self) -> FrontEndLoad:
        """The mean over the last period: a step within it counts for its part."""
        parts = [self.demand(self.now - self.rules.period_s * (part + 0.5) / 10) for part in range(10)]
        each = [demand / self.there.workers_in_all / self.share for demand in parts]
        time_s = sum(FAST_S if cpu < self.knee else SLOW_S for cpu in each) / 10
        cpu = sum(min(1.0, cpu) * self.share for cpu in each) / 10
        return alike(self.there, time_s, cpu, self.cores)

    @property
    def grew(self) -> list[bool]:
        """For each change of size: True if it was by one worker upwards."""
        totals = [self.began.workers_in_all, *(size.workers_in_all for _, size in self.moves)]
        return [later > earlier for earlier, later in pairwise(totals)]


@pytest.mark.parametrize("phase_s", [0.0, 0.05, 0.2, 0.3, 0.45])
def test_a_step_of_load_has_a_second_worker_in_3_s_and_the_end_of_it_has_one_again(phase_s: float) -> None:
    begins_s = 10.0 + phase_s
    world = World(ONE_MACHINE, Size(1, 1), lambda at_s: 1.3 if begins_s <= at_s < 60.0 else 0.05)
    world.run(150.0)
    (up_s, two), (down_s, one) = world.moves
    assert (two, one) == (Size(2, 1), Size(1, 1))
    assert up_s + world.worker_start_s - begins_s <= 3.0
    assert 60.0 < down_s - 60.0 <= 61.5


def test_a_growing_load_goes_up_to_the_cores_and_then_out_and_back_the_other_way() -> None:
    world = World(PRODUCTION, Size(1, 3), lambda at_s: 16.0 if 10.0 < at_s < 300.0 else 0.1)
    world.run(3000.0)
    sizes = [size for _, size in world.moves]
    up = [Size(2, 3), Size(3, 3), Size(4, 3), Size(4, 4), Size(4, 5)]
    assert sizes == [*up, *[Size(workers, 5) for workers in (3, 2, 1)], Size(1, 4), Size(1, 3)]
    assert world.grew == [True] * 5 + [False] * 5


def test_one_worker_is_enough_with_its_core_half_used() -> None:
    world = World(ONE_MACHINE, Size(2, 1), lambda _: 0.45)
    assert world.run(200.0).moves == [(60.0, Size(1, 1))]


def test_a_load_on_the_edge_settles() -> None:
    for tenths in range(1, 50):
        assert all(World(ONE_MACHINE, Size(1, 1), steady(tenths / 10)).run(300.0).grew)


def steady(cores: float) -> Callable[[float], float]:
    return lambda at_s: cores


# ---- properties

LOADS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 0.5, 30.0, 400.0]),
        st.lists(
            st.builds(
                lambda answers, silent: RouterLoad(len(answers) + silent, tuple(answers)),
                st.lists(
                    st.builds(
                        WorkerLoad,
                        st.one_of(st.none(), st.sampled_from([FAST_S, SLOW_S])),
                        st.integers(0, 10).map(lambda tenths: tenths / 10),
                    ),
                    max_size=4,
                ),
                st.sampled_from([0, 0, 0, 1]),
            ),
            max_size=6,
        ),
        st.integers(1, 4),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)
SIZES = st.builds(Size, st.integers(1, 4), st.integers(3, 5))


def story(
    loads: list[tuple[float, list[RouterLoad], int, bool]], size: Size, rules: FrontEndSettings = PRODUCTION
) -> Iterator[tuple[FrontEndLoad, float, FrontEndDecision, Told]]:
    told, now = Told(size, rules), 100.0
    for step_s, routers, cores, room in loads:
        now += step_s
        load = FrontEndLoad(tuple(routers), cores, room)
        yield load, now, told.sees(load, now), told


@given(LOADS, SIZES)
def test_the_size_is_always_within_its_bounds_and_moves_one_step_at_a_time(
    loads: list[tuple[float, list[RouterLoad], int, bool]], size: Size
) -> None:
    for load, _, decision, told in story(loads, size):
        before, after = decision.previous, decision.desired
        assert 1 <= after.workers <= load.cores
        assert PRODUCTION.least_routers <= after.routers <= PRODUCTION.max_routers
        assert told.state.size == after
        if decision.rule != FrontEndRule.BOUNDS:
            assert abs(after.workers - before.workers) + abs(after.routers - before.routers) <= 1


@given(LOADS, SIZES)
def test_it_goes_out_only_with_room_and_a_worker_on_every_core(
    loads: list[tuple[float, list[RouterLoad], int, bool]], size: Size
) -> None:
    for load, _, decision, _ in story(loads, size):
        if decision.routers > decision.previous.routers:
            assert load.room and decision.workers == load.cores


@given(LOADS, SIZES)
def test_it_goes_in_only_with_one_worker_in_each_router(
    loads: list[tuple[float, list[RouterLoad], int, bool]], size: Size
) -> None:
    for _, _, decision, _ in story(loads, size):
        if decision.routers < decision.previous.routers:
            assert decision.workers == 1


@given(LOADS, SIZES)
def test_silence_lowers_nothing_and_speed_raises_nothing(
    loads: list[tuple[float, list[RouterLoad], int, bool]], size: Size
) -> None:
    for load, _, decision, _ in story(loads, size):
        if decision.rule == FrontEndRule.BOUNDS:
            continue
        answers = [worker for each in load.routers for worker in each.answered]
        silent = sum(each.workers for each in load.routers) - len(answers)
        slow = sum(worker.routing_s == SLOW_S for worker in answers)
        if decision.direction is Direction.UP:
            assert 2 * slow >= len(answers) + silent > 0
        if decision.direction is Direction.DOWN:
            assert silent == 0 and answers


@given(LOADS, SIZES, st.integers(0, 3), st.integers(0, 3), st.integers(0, 10), st.integers(0, 10))
def test_more_load_never_means_a_smaller_front_end(
    loads: list[tuple[float, list[RouterLoad], int, bool]],
    size: Size,
    slow: int,
    more_slow: int,
    tenths: int,
    more_tenths: int,
) -> None:
    """Two that have seen the same, and now one sees more."""
    *_, (_, now, _, told) = story(loads, size)
    twin = copy.deepcopy(told)
    at = told.state.size

    def load(slow_routers: int, cpu: float) -> FrontEndLoad:
        times = [SLOW_S if number < slow_routers else FAST_S for number in range(at.routers)]
        return seen(*[router(*[time_s] * at.workers, cpu=cpu) for time_s in times])

    less = told.sees(load(slow, min(1.0, tenths / 10)), now + 400.0).desired
    more = twin.sees(load(slow + more_slow, min(1.0, (tenths + more_tenths) / 10)), now + 400.0).desired
    assert more.workers >= less.workers and more.routers >= less.routers


@settings(max_examples=40)
@given(
    st.integers(0, 250),
    st.integers(1, 100),
    st.integers(5, 100),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([PRODUCTION, ONE_MACHINE]),
)
def test_under_a_constant_load_it_never_turns_back(
    demand: int, knee: int, share: int, cores: int, workers: int, rules: FrontEndSettings
) -> None:
    """For any share of a core per worker, and any onset of slowness."""
    start = Size(min(workers, cores), rules.least_routers)
    world = World(rules, start, lambda _: demand / 10, cores, knee / 100, share / 100)
    world.run(800.0)
    assert world.grew == sorted(world.grew)  # perhaps fewer, then perhaps more, and then constant


@settings(max_examples=30)
@given(st.integers(0, 120), st.integers(1, 60), st.sampled_from([PRODUCTION, ONE_MACHINE]))
def test_a_higher_constant_load_never_settles_at_a_smaller_size(
    demand: int, more: int, rules: FrontEndSettings
) -> None:
    def settled(cores_of_work: float) -> int:
        world = World(rules, Size(1, rules.least_routers), lambda _: cores_of_work)
        return world.run(400.0).size.workers_in_all

    assert settled(demand / 10) <= settled((demand + more) / 10)
