"""The scaling loop in virtual time: times of decisions, and delivery of numbers to the target."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from autoscaler.policy import POKE_GAP_S, Decision, Direction, Observation, ScalingRule
from autoscaler.scaling_loop import ScalingLoop
from autoscaler.utilization import UtilizationFeed
from serving.endpoint import AutoscalePolicy, VersionKey
from serving.usage import UsageReport, VersionUsage
from tests.unit.autoscaler.conftest import VirtualClock

KEY = VersionKey("iris", "blue")
OTHER = VersionKey("iris", "green")
POLICY = AutoscalePolicy(max_replicas=20)


class Load:
    """Fits `Source`: the load a test sets, and when it was looked at."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.now: dict[VersionKey, Observation] = {}
        self.looks: list[tuple[float, VersionKey]] = []
        self.broken: set[VersionKey] = set()
        self.upon_look: dict[VersionKey, Callable[[VersionKey], None]] = {}

    def is_(self, busy_mean: float, waiting: int = 0, key: VersionKey = KEY, complete: bool = True) -> None:
        self.now[key] = Observation(busy_mean, round(busy_mean), waiting, 10, complete)

    def observe(self, key: VersionKey, period_s: float, now: float) -> Observation:
        self.looks.append((now, key))
        if key in self.upon_look:
            self.upon_look[key](key)
        if key in self.broken:
            raise RuntimeError("nothing to see")
        return self.now.get(key, Observation(0.0, 0, 0, 10, True))

    def times(self, key: VersionKey = KEY) -> list[float]:
        return [at_s - 1000.0 for at_s, looked_at in self.looks if looked_at == key]


class Provider:
    """Fits `Target`: takes numbers, or refuses them, or takes its time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked: list[tuple[float, VersionKey, int]] = []
        self.decisions: list[Decision] = []
        self.refusing: set[VersionKey] = set()
        self.slow: dict[VersionKey, asyncio.Event] = {}
        self.under_way: Counter[VersionKey] = Counter()
        self.cancelled = 0

    async def scale(self, key: VersionKey, decision: Decision) -> None:
        self.asked.append((self.clock.now() - 1000.0, key, decision.desired))
        self.decisions.append(decision)
        self.under_way[key] += 1
        assert self.under_way[key] == 1
        try:
            if key in self.slow:
                await self.slow[key].wait()
            if key in self.refusing:
                raise RuntimeError("no room")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way[key] -= 1

    def numbers(self, key: VersionKey = KEY) -> list[int]:
        return [desired for _, asked_for, desired in self.asked if asked_for == key]


@pytest.fixture
def load(clock: VirtualClock) -> Load:
    return Load(clock)


@pytest.fixture
def provider(clock: VirtualClock) -> Provider:
    return Provider(clock)


@pytest.fixture
def records() -> list[Decision]:
    return []


@pytest.fixture
async def loop(
    clock: VirtualClock, load: Load, provider: Provider, records: list[Decision]
) -> AsyncIterator[ScalingLoop]:
    scaling = ScalingLoop(load, provider, clock, clock.now, records.append)
    async with running(scaling):
        yield scaling


@asynccontextmanager
async def running(scaling: ScalingLoop) -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    task = asyncio.create_task(scaling.run(), name="scaling loop")
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() - {asyncio.current_task()} <= before


# ---- when it decides


async def test_a_version_is_decided_on_when_it_is_tracked_and_then_once_per_period(
    loop: ScalingLoop, clock: VirtualClock, load: Load
) -> None:
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(10.0)
    times = load.times()
    assert times[0] == 0.0
    assert len(times) in (11, 12)
    assert {round(later - earlier, 6) for earlier, later in pairwise(times[1:])} == {1.0}


async def test_each_version_keeps_its_own_period(loop: ScalingLoop, clock: VirtualClock, load: Load) -> None:
    loop.track(KEY, POLICY, 1, desired=1)
    loop.track(OTHER, replace(POLICY, refresh_period_s=5.0), 1, desired=1)
    await clock.advance(100.0)
    assert len(load.times(KEY)) == pytest.approx(101, abs=1)
    assert len(load.times(OTHER)) == pytest.approx(21, abs=1)


async def test_a_poke_is_answered_without_time_passing(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(20.3)
    load.is_(1.0, waiting=4)
    loop.poke(KEY)
    await clock.settle()
    ((at_s, *asked),) = provider.asked
    assert at_s == pytest.approx(20.3) and asked == [KEY, 8]


async def test_pokes_of_one_version_are_answered_at_most_once_in_50_ms_and_the_last_is_not_lost(
    loop: ScalingLoop, clock: VirtualClock, load: Load
) -> None:
    loop.track(KEY, replace(POLICY, refresh_period_s=1000.0), 1, desired=1)
    await clock.advance(1.0)
    load.looks.clear()
    for step in range(100):
        load.is_(1.0, waiting=step)
        loop.poke(KEY)
        loop.poke(KEY)
        await clock.advance(0.01)
    await clock.advance(1.0)
    gaps = [later - earlier for earlier, later in pairwise(load.times())]
    assert min(gaps) >= POKE_GAP_S - 1e-9
    assert len(load.times()) in (20, 21)
    assert load.times()[-1] >= 1.99  # the last poke was at 1.99 s
    assert loop.desired(KEY) == 20


async def test_a_poke_right_after_a_decision_waits_for_the_gap_and_not_for_the_period(
    loop: ScalingLoop, clock: VirtualClock, load: Load
) -> None:
    loop.track(KEY, replace(POLICY, refresh_period_s=1000.0), 1, desired=1)
    await clock.advance(0.01)
    load.looks.clear()
    loop.poke(KEY)
    await clock.advance(0.5)
    assert load.times() == [pytest.approx(POKE_GAP_S)]


async def test_a_tick_and_a_poke_together_make_one_decision_in_50_ms(
    loop: ScalingLoop, clock: VirtualClock, load: Load
) -> None:
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(0.001)
    for _ in range(400):
        loop.poke(KEY)
        await clock.advance(0.007)
    gaps = [later - earlier for earlier, later in pairwise(load.times())]
    assert min(gaps) >= POKE_GAP_S - 1e-9


async def test_a_poke_for_a_version_that_is_not_tracked_is_ignored(
    loop: ScalingLoop, clock: VirtualClock, load: Load
) -> None:
    loop.poke(KEY)
    await clock.advance(1.0)
    assert load.looks == []


async def test_a_flood_of_pokes_does_not_keep_other_versions_from_their_ticks(
    loop: ScalingLoop, clock: VirtualClock, load: Load
) -> None:
    def poked_again_and_again(key: VersionKey) -> None:
        clock.spend(0.001)  # 100 of these take longer than the gap between two: some poke is always due
        loop.poke(key)

    pokers = [VersionKey("busy", f"v{number}") for number in range(100)]
    for key in [*pokers, KEY]:
        loop.track(key, POLICY, 1, desired=1)
    for key in pokers:
        load.upon_look[key] = poked_again_and_again
    await clock.advance(8.0)
    load.upon_look.clear()
    await clock.advance(1.0)
    assert len([at_s for at_s in load.times(KEY) if at_s < 8.0]) >= 7


async def test_a_late_tick_answers_the_poke_that_came_meanwhile(
    loop: ScalingLoop, clock: VirtualClock, load: Load
) -> None:
    def takes_long(_: VersionKey) -> None:
        clock.spend(2.0)
        loop.poke(KEY)
        load.upon_look.clear()

    for key in (KEY, OTHER):
        loop.track(key, POLICY, 1, desired=1)
    await clock.advance(0.8)
    load.looks.clear()
    load.upon_look[OTHER] = takes_long
    await clock.advance(3.5)
    times = load.times()
    assert len(times) >= 2
    assert min(later - earlier for earlier, later in pairwise(times)) >= POKE_GAP_S - 1e-9


async def test_six_thousand_versions_take_one_alarm_and_no_task_of_their_own(
    loop: ScalingLoop, clock: VirtualClock, load: Load
) -> None:
    before = len(asyncio.all_tasks())
    keys = [VersionKey(f"endpoint-{number}", version) for number in range(1000) for version in "abcdef"]
    for key in keys:
        loop.track(key, POLICY, 1, desired=1)
    await clock.settle()
    assert {key for _, key in load.looks} == set(keys)
    assert len(asyncio.all_tasks()) <= before + 1
    assert clock.sleepers == 1
    ticks = Counter(int(loop._versions[key].next_tick(clock.now()) * 10) for key in keys)
    assert max(ticks.values()) < 2 * 600  # spread over the second: no tenth has more than twice its share


async def test_a_source_that_fails_for_one_version_stops_neither_it_nor_the_others(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    for key in (KEY, OTHER):
        loop.track(key, POLICY, 1, desired=1)
    load.broken.add(KEY)
    load.is_(3.0, key=OTHER)
    with caplog.at_level(logging.ERROR, logger="scorefront.autoscaler"):
        await clock.advance(2.0)
    assert provider.numbers(OTHER) == [5]
    assert "iris/blue: scaling decision failed" in caplog.text
    load.broken.clear()
    load.is_(3.0)
    await clock.advance(1.0)
    assert provider.numbers(KEY) == [5]


# ---- tracking


async def test_a_changed_policy_counts_at_once_and_keeps_the_history(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    load.is_(3.5)
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(70.5)
    load.is_(0.5)
    await clock.advance(30.0)
    loop.track(KEY, replace(POLICY, max_replicas=3), 1, desired=5)
    await clock.advance(POKE_GAP_S)
    assert provider.numbers() == [5, 3]
    await clock.advance(29.0)
    assert provider.numbers() == [5, 3]
    await clock.advance(3.0)  # the window goes on from before the change
    assert provider.numbers() == [5, 3, 1]


async def test_tracking_the_same_again_changes_nothing(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    loop.track(KEY, POLICY, 1, desired=4)
    await clock.advance(0.01)
    looks = len(load.looks)
    loop.track(KEY, POLICY, 1, desired=4)
    await clock.settle()
    assert len(load.looks) == looks
    assert loop.desired(KEY) == 4
    assert provider.asked == []


async def test_a_number_that_was_changed_behind_the_loops_back_is_put_right(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    load.is_(3.5)
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(2.0)
    loop.track(KEY, POLICY, 1, desired=2)
    await clock.advance(1.0)
    assert provider.numbers() == [5, 5]


async def test_a_forgotten_version_is_left_alone(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(1.0)
    loop.poke(KEY)
    loop.forget(KEY)
    loop.forget(OTHER)
    load.is_(9.0)
    load.looks.clear()
    await clock.advance(10.0)
    assert load.looks == [] and provider.asked == []
    with pytest.raises(KeyError):
        loop.desired(KEY)


async def test_a_fixed_number_is_asked_for_once(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider, records: list[Decision]
) -> None:
    load.is_(9.0)
    loop.track(KEY, AutoscalePolicy(enabled=False, min_replicas=4, max_replicas=4), 1, desired=1)
    await clock.advance(10.0)
    assert provider.numbers() == [4]
    assert [record.rule for record in records] == [ScalingRule.FIXED]


# ---- getting the number to the target


async def test_a_number_is_sent_once(loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider) -> None:
    load.is_(3.5)
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(30.0)
    assert provider.numbers() == [5]


async def test_a_failed_call_is_made_again_at_every_tick_until_it_succeeds(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    load.is_(3.5)
    provider.refusing.add(KEY)
    with caplog.at_level(logging.WARNING, logger="scorefront.autoscaler"):
        loop.track(KEY, POLICY, 1, desired=1)
        await clock.advance(5.0)
    assert provider.numbers() == [5] * len(load.looks)
    assert loop.desired(KEY) == 5
    assert caplog.text.count("no room") == 1  # told once, not at every tick
    load.is_(0.0, complete=False)
    provider.refusing.clear()
    calls = len(provider.asked)
    await clock.advance(5.0)
    assert len(provider.asked) == calls + 1
    assert (
        provider.decisions[-1].direction is Direction.UP
    )  # the decision that is on record, not a later one that holds


async def test_pokes_do_not_hammer_a_target_that_just_refused_this_number(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    load.is_(3.5)
    provider.refusing.add(KEY)
    loop.track(KEY, replace(POLICY, refresh_period_s=1000.0), 1, desired=1)
    await clock.settle()
    for _ in range(50):
        loop.poke(KEY)
        await clock.advance(0.1)
    assert provider.numbers() == [5]
    load.is_(7.0)
    loop.poke(KEY)
    await clock.advance(0.1)
    assert provider.numbers() == [5, 10]


async def test_the_number_from_before_failed_calls_is_sent_all_the_same(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(0.1)
    provider.refusing.add(KEY)
    load.is_(3.5)
    await clock.advance(1.0)
    load.is_(0.0)
    await clock.advance(70.0)
    assert loop.desired(KEY) == 1
    provider.refusing.clear()
    provider.asked.clear()
    await clock.advance(5.0)
    assert provider.numbers() == [1]  # the effect of the refused 5 is unknown


async def test_a_slow_target_gets_one_call_at_a_time_and_then_the_newest_number(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    provider.slow[KEY] = asyncio.Event()
    load.is_(1.4)
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(1.5)
    for busy in (2.1, 4.2, 7.0):
        load.is_(busy)
        await clock.advance(1.0)
    assert provider.numbers() == [2]
    provider.slow[KEY].set()
    await clock.settle()
    assert provider.numbers() == [2, 10]


async def test_a_slow_target_of_one_version_does_not_delay_another(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    provider.slow[KEY] = asyncio.Event()
    for key in (KEY, OTHER):
        load.is_(1.4, key=key)
        loop.track(key, POLICY, 1, desired=1)
    await clock.advance(5.0)
    load.is_(7.0, waiting=1, key=OTHER)
    loop.poke(OTHER)
    await clock.settle()
    assert provider.numbers(OTHER) == [2, 12]
    assert provider.numbers(KEY) == [2]


async def test_forgetting_a_version_cancels_its_call_and_tracking_it_again_begins_anew(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider
) -> None:
    provider.slow[KEY] = asyncio.Event()
    load.is_(1.4)
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.settle()
    loop.forget(KEY)
    loop.track(KEY, POLICY, 1, desired=1)
    provider.slow.clear()
    await clock.advance(1.1)
    assert provider.cancelled == 1
    assert provider.numbers() == [2, 2]


async def test_cancelling_the_loop_cancels_calls_under_way_and_leaves_no_task(
    clock: VirtualClock, load: Load, provider: Provider, records: list[Decision]
) -> None:
    scaling = ScalingLoop(load, provider, clock, clock.now, records.append)
    async with running(scaling):  # checks for tasks left behind
        for key in (KEY, OTHER):
            provider.slow[key] = asyncio.Event()
            load.is_(1.4, key=key)
            scaling.track(key, POLICY, 1, desired=1)
        await clock.advance(0.5)
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert {"scale iris/blue", "scale iris/green", "autoscaler alarm"} <= names
    assert provider.cancelled == 2
    assert clock.sleepers == 0


async def test_a_loop_that_is_cancelled_while_idle_leaves_no_task(
    clock: VirtualClock, load: Load, provider: Provider, records: list[Decision]
) -> None:
    async with running(ScalingLoop(load, provider, clock, clock.now, records.append)):
        await clock.settle()


# ---- records


async def test_every_change_is_recorded_and_the_first_decision_that_holds_by_another_rule(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider, records: list[Decision]
) -> None:
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(10.5)
    load.is_(3.5)
    await clock.advance(10.0)
    load.is_(1.4)
    await clock.advance(100.0)
    told = [(record.rule, record.direction, record.desired) for record in records]
    assert told == [
        (ScalingRule.MIN, Direction.HOLD, 1),
        (ScalingRule.DEMAND, Direction.UP, 5),
        (ScalingRule.WINDOW, Direction.HOLD, 5),
        (ScalingRule.WINDOW, Direction.DOWN, 2),
        (ScalingRule.DEMAND, Direction.HOLD, 2),
    ]


async def test_the_number_sent_to_the_target_is_the_recorded_decision(
    loop: ScalingLoop, clock: VirtualClock, load: Load, provider: Provider, records: list[Decision]
) -> None:
    load.is_(3.5)
    provider.refusing.add(KEY)
    loop.track(KEY, POLICY, 1, desired=1)
    await clock.advance(3.0)
    assert len(provider.decisions) >= 3
    assert all(decision is records[0] for decision in provider.decisions)


# ---- with the real feed


async def test_a_step_from_rest_is_asked_for_by_the_decision_that_its_report_triggers(
    clock: VirtualClock, provider: Provider, records: list[Decision]
) -> None:
    feed = UtilizationFeed()
    loop = ScalingLoop(feed, provider, clock, clock.now, records.append)
    async with running(loop):
        loop.track(KEY, POLICY, 1, desired=1)
        for _ in range(20):
            feed.apply(UsageReport("w1", clock.now() + 77.0, ()), clock.now())
            await clock.advance(0.2)
        usage = VersionUsage(*KEY, busy=1, total=1, waiting=4, busy_slot_seconds=0.0, busy_by_replica={"r1": 1})
        feed.apply(UsageReport("w1", clock.now() + 77.0, (usage,), starved=(KEY,)), clock.now())
        loop.poke(KEY)
        asked_at_s = clock.now() - 1000.0
        await clock.settle()
        ((at_s, *asked),) = provider.asked
        assert at_s == pytest.approx(asked_at_s) and asked == [KEY, 6]
        assert records[-1].reason.startswith("Demand 4.00 (0.00 busy on average + 4 waiting)")
