"""Many workers' reports merged into one observation, from exact integrals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.utilization import HISTORY_POINTS, SILENT_AFTER_S, UtilizationFeed
from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage

KEY = VersionKey("iris", "blue")
OTHER = VersionKey("iris", "green")


class Worker:
    """One worker as seen by the control plane: its own clock, exact integrals, reports of changes only."""

    def __init__(self, feed: UtilizationFeed, name: str = "w1", clock_ahead_s: float = 0.0) -> None:
        self.feed = feed
        self.name = name
        self.ahead_s = clock_ahead_s
        self.busy: dict[VersionKey, int] = {}
        self.sums: dict[VersionKey, float] = {}
        self.waiting = 0
        self.replicas: dict[str, int] = {}
        self._at_s = 0.0
        self._changed: set[VersionKey] = set()

    def set_busy(self, busy: int, now: float, key: VersionKey = KEY, waiting: int = 0) -> None:
        self._accrue(now)
        self.busy[key] = busy
        self.waiting = waiting
        self._changed.add(key)

    def report(self, now: float, received: float | None = None) -> None:
        self._accrue(now)
        versions = tuple(
            VersionUsage(
                *key,
                busy=self.busy[key],
                total=16,
                waiting=self.waiting,
                busy_slot_seconds=self.sums.get(key, 0.0),
                busy_by_replica=self.replicas,
            )
            for key in sorted(self._changed)
        )
        self._changed.clear()
        self.feed.apply(UsageReport(self.name, now + self.ahead_s, versions), now if received is None else received)

    def beat(self, start_s: float, end_s: float) -> None:
        """Report every 200 ms, from `start_s` to `end_s`."""
        for tick in range(round((end_s - start_s) / 0.2) + 1):
            self.report(start_s + tick * 0.2)

    def _accrue(self, now: float) -> None:
        for key, busy in self.busy.items():
            self.sums[key] = self.sums.get(key, 0.0) + busy * (now - self._at_s)
        self._at_s = now


@pytest.fixture
def feed() -> UtilizationFeed:
    return UtilizationFeed()


def test_an_unchanged_version_accrues_busy_times_elapsed(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.report(0.0)
    worker.set_busy(3, 0.4)
    worker.report(0.4)
    worker.beat(0.6, 2.0)
    observation = feed.observe(KEY, 1.0, 2.1)
    assert observation.busy_mean == pytest.approx(3.0)
    assert (observation.busy, observation.total_slots, observation.complete) == (3, 16, True)


def test_the_mean_is_exact_although_the_change_lies_between_two_reports(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.beat(0.0, 1.0)
    worker.set_busy(4, 1.15)  # 50 ms before the next report, and gone 30 ms after it
    worker.report(1.2)
    worker.set_busy(0, 1.23)
    worker.report(1.4)
    assert feed.observe(KEY, 1.0, 1.5).busy_mean == pytest.approx(4 * 0.08)


def test_a_poke_in_the_middle_of_a_period_sees_the_usage_up_to_now(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.beat(0.0, 3.0)
    worker.set_busy(2, 3.0, waiting=5)
    worker.report(3.0)
    observation = feed.observe(KEY, 1.0, 3.05)
    assert observation.busy_mean == pytest.approx(0.1)
    assert (observation.busy, observation.waiting) == (2, 5)


def test_a_look_back_into_a_gap_between_reports_is_interpolated(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.report(0.0)
    worker.set_busy(2, 0.0)
    worker.set_busy(0, 0.1)  # within one report: 0.2 slot seconds somewhere in 0.2 s
    worker.report(0.2)
    worker.beat(0.4, 1.2)
    assert feed.observe(KEY, 1.0, 1.1).busy_mean == pytest.approx(0.1)


def test_workers_with_clocks_far_apart_add_up(feed: UtilizationFeed) -> None:
    one, two = Worker(feed, "w1", clock_ahead_s=1e6), Worker(feed, "w2", clock_ahead_s=-5e5)
    for worker, busy in ((one, 2), (two, 3)):
        worker.report(0.0)
        worker.set_busy(busy, 0.2, waiting=1)
        worker.replicas = {"a": 1, f"only-{worker.name}": busy - 1, "idle": 0}
        worker.beat(0.2, 2.0)
    observation = feed.observe(KEY, 1.0, 2.0)
    assert observation.busy_mean == pytest.approx(5.0)
    assert (observation.busy, observation.waiting, observation.total_slots) == (5, 2, 32)
    assert observation.complete
    assert feed.busy_by_replica(KEY) == {"a": 2, "only-w1": 1, "only-w2": 2}


def test_a_report_that_comes_late_changes_no_difference(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.report(0.0)
    worker.set_busy(1, 0.0)
    for tick in range(1, 21):
        worker.report(tick * 0.2, received=tick * 0.2 + (0.15 if tick % 2 else 0.0))
        assert feed.observe(KEY, 1.0, tick * 0.2 + 0.15).busy_mean <= 1.0 + 1e-9
    assert feed.observe(KEY, 1.0, 4.0).busy_mean == pytest.approx(1.0)


def test_nothing_is_known_before_the_first_report(feed: UtilizationFeed) -> None:
    observation = feed.observe(KEY, 1.0, 5.0)
    assert (observation.busy_mean, observation.busy, observation.total_slots) == (0.0, 0, 0)
    assert not observation.complete
    assert feed.busy_by_replica(KEY) == {}


def test_a_version_without_reports_is_idle_once_a_period_has_passed(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.beat(0.0, 0.8)
    assert not feed.observe(KEY, 1.0, 0.9).complete
    worker.report(1.0)
    assert feed.observe(KEY, 1.0, 1.0).complete
    assert not feed.observe(KEY, 10.0, 1.0).complete


def test_counters_older_than_the_first_report_are_not_taken_for_load(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.set_busy(2, 0.0)
    worker.report(1000.0)
    worker.report(1000.2)
    observation = feed.observe(KEY, 1.0, 1000.2)
    assert observation.busy_mean == pytest.approx(2 * 0.2)  # the part of the period that is known
    assert not observation.complete


def test_a_worker_is_silent_one_second_after_its_last_report(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.beat(0.0, 4.0)
    assert feed.observe(KEY, 1.0, 4.0 + SILENT_AFTER_S).complete
    assert not feed.observe(KEY, 1.0, 4.01 + SILENT_AFTER_S).complete


def test_one_silent_worker_among_many_makes_the_whole_incomplete_until_it_speaks_again(feed: UtilizationFeed) -> None:
    one, two = Worker(feed, "w1"), Worker(feed, "w2")
    one.beat(0.0, 6.0)
    two.beat(0.0, 4.0)
    assert not feed.observe(KEY, 1.0, 6.0).complete
    two.report(6.0)
    assert feed.observe(KEY, 1.0, 6.0).complete  # its integrals bridge the silence


def test_an_expected_worker_that_was_never_heard_makes_the_whole_incomplete(feed: UtilizationFeed) -> None:
    Worker(feed, "w1").beat(0.0, 4.0)
    feed.expect(["w1", "w2"])
    assert not feed.observe(KEY, 1.0, 4.0).complete
    feed.expect(["w1"])
    assert feed.observe(KEY, 1.0, 4.0).complete


def test_a_restarted_worker_begins_at_zero_and_the_period_of_its_restart_is_incomplete(feed: UtilizationFeed) -> None:
    old, new = Worker(feed, "w1-a"), Worker(feed, "w1-b")
    feed.expect(["w1-a"])
    old.set_busy(5, 0.0)
    old.beat(0.0, 10.0)
    feed.forget_worker("w1-a", 10.1)
    feed.expect(["w1-b"])
    gone = feed.observe(KEY, 1.0, 10.1)
    assert (gone.busy, gone.busy_mean, gone.complete) == (0, 0.0, False)
    new._at_s = 10.2
    new.report(10.2)
    new.set_busy(2, 10.3)
    new.beat(10.4, 11.0)
    assert not feed.observe(KEY, 1.0, 11.1).complete
    new.beat(11.2, 12.0)
    again = feed.observe(KEY, 1.0, 12.0)
    assert (again.busy, again.complete) == (2, True)
    assert again.busy_mean == pytest.approx(2.0)


def test_the_period_after_a_worker_left_is_incomplete_for_long_periods_too(feed: UtilizationFeed) -> None:
    one, two = Worker(feed, "w1"), Worker(feed, "w2")
    one.beat(0.0, 60.0)
    two.beat(0.0, 20.0)
    feed.forget_worker("w2", 20.0)
    assert not feed.observe(KEY, 45.0, 60.0).complete
    assert feed.observe(KEY, 30.0, 60.0).complete


def test_forgetting_a_worker_that_was_never_heard_loses_nothing(feed: UtilizationFeed) -> None:
    Worker(feed).beat(0.0, 4.0)
    feed.expect(["w1", "w9"])
    feed.forget_worker("w9", 4.0)
    assert feed.observe(KEY, 1.0, 4.0).complete


def test_a_counter_that_falls_begins_anew_instead_of_counting_negative(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.set_busy(4, 0.0)
    worker.beat(0.0, 4.0)
    worker.set_busy(1, 4.0)
    worker.sums[KEY] = 0.0
    worker.beat(4.2, 4.4)
    observation = feed.observe(KEY, 1.0, 4.4)
    assert observation.busy_mean == pytest.approx(0.2)
    assert not observation.complete
    worker.beat(4.6, 5.4)
    observation = feed.observe(KEY, 1.0, 5.4)
    assert observation.busy_mean == pytest.approx(1.0)
    assert observation.complete


def test_a_change_after_a_long_rest_is_not_spread_over_the_rest(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.set_busy(2, 0.0)
    worker.beat(0.0, 1.0)
    worker.set_busy(0, 1.1)
    worker.beat(1.2, 1.6)
    assert feed.observe(KEY, 1.0, 1.6).busy_mean == pytest.approx(2 * 0.5)


def test_a_report_older_than_the_last_one_is_ignored(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.set_busy(1, 0.0)
    worker.beat(0.0, 4.0)
    feed.apply(UsageReport("w1", 2.0, (VersionUsage(*KEY, 9, 16, 9, 0.0, {}),)), 4.0)
    observation = feed.observe(KEY, 1.0, 4.0)
    assert (observation.busy, observation.waiting) == (1, 0)
    assert observation.busy_mean == pytest.approx(1.0)


def test_suspects_are_those_of_the_last_report_of_each_worker(feed: UtilizationFeed) -> None:
    assert feed.suspects(KEY) == frozenset()
    for at_s, suspects in ((1.0, ("r1", "r2")), (1.2, ("r2",))):
        feed.apply(UsageReport("w1", at_s, (VersionUsage(*KEY, 0, 2, 0, 0.0, {}, suspects),)), at_s)
    assert feed.suspects(KEY) == {"r2"}
    feed.forget_worker("w1", 2.0)
    assert feed.suspects(KEY) == frozenset()


def test_the_same_instant_may_be_reported_twice(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.beat(0.0, 2.0)
    worker.set_busy(3, 2.0)
    worker.report(2.0)
    worker.set_busy(1, 2.0)
    worker.report(2.0)
    worker.beat(2.2, 2.4)
    assert feed.observe(KEY, 1.0, 2.4).busy_mean == pytest.approx(0.4)


def test_a_version_forgotten_and_declared_again_brings_no_load_of_the_past(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.set_busy(2, 0.0)
    worker.beat(0.0, 100.0)
    feed.forget_version(KEY)
    assert feed.observe(KEY, 1.0, 100.0).busy == 0
    worker.set_busy(0, 100.0)
    worker.report(100.2)
    assert feed.observe(KEY, 1.0, 100.2).busy_mean == 0.0


def test_versions_do_not_mix(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.report(0.0)
    worker.set_busy(2, 0.0)
    worker.set_busy(7, 0.0, key=OTHER)
    worker.beat(0.2, 2.0)
    assert feed.observe(KEY, 1.0, 2.0).busy_mean == pytest.approx(2.0)
    assert feed.observe(OTHER, 1.0, 2.0).busy_mean == pytest.approx(7.0)


def test_another_reader_with_a_shorter_period_takes_nothing_from_a_longer_one(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    worker.report(0.0)
    worker.set_busy(2, 0.0)
    for tick in range(1, 200):
        worker.set_busy(2 + tick % 2, tick * 0.2)
        worker.report(tick * 0.2)
        feed.observe(KEY, 20.0, tick * 0.2)
        feed.observe(KEY, 1.0, tick * 0.2)
    observation = feed.observe(KEY, 20.0, 199 * 0.2)
    assert observation.complete
    assert observation.busy_mean == pytest.approx(2.5, abs=0.1)


STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.05, 0.2, 0.2, 0.2]), st.integers(0, 9)), min_size=8, max_size=80)


@given(STEPS, st.sampled_from([0.3, 1.0, 5.0]), st.sampled_from([0.0, 0.1]))
def test_the_mean_equals_the_true_mean_when_changes_fall_on_reports(
    steps: list[tuple[float, int]], period_s: float, later_s: float
) -> None:
    feed, now, story = UtilizationFeed(), 0.0, [(0.0, 0)]
    worker = Worker(feed)
    worker.report(0.0)
    for step_s, busy in steps:
        now += step_s
        worker.set_busy(busy, now)
        worker.report(now)
        feed.observe(KEY, period_s, now)
        story.append((now, busy))
    end_s = now + later_s
    ends = [*(at_s for at_s, _ in story[1:]), end_s]
    true = sum(
        busy * max(0.0, until_s - max(at_s, end_s - period_s))
        for (at_s, busy), until_s in zip(story, ends, strict=True)
    )
    assert feed.observe(KEY, period_s, end_s).busy_mean == pytest.approx(true / period_s, abs=1e-6)


@pytest.mark.parametrize("period_s", [120.0, 600.0])
@pytest.mark.parametrize("levels", [(9, 0), (0,) * 299 + (9,), (9,) * 150 + (0,) * 150, tuple(range(10))])
def test_a_period_of_minutes_is_right_within_a_64th_in_bounded_memory(
    feed: UtilizationFeed, levels: tuple[int, ...] | tuple[int, int], period_s: float
) -> None:
    worker, period = Worker(feed), round(period_s / 0.2)
    feed.observe(KEY, period_s, 0.0)
    worker.report(0.0)
    truth = []
    for tick in range(1, 6000):
        worker.set_busy(levels[tick % len(levels)], tick * 0.2)
        worker.report(tick * 0.2)
        truth.append(worker.sums[KEY])
        assert len(feed._versions[KEY].by_worker["w1"]._points) <= 2 * HISTORY_POINTS
        if tick % period == period // 3 and tick > period:
            observation = feed.observe(KEY, period_s, tick * 0.2)
            assert observation.complete
            assert observation.busy_mean == pytest.approx((truth[-1] - truth[-1 - period]) / period_s, abs=9 / 64)


def test_memory_is_bounded_without_observations(feed: UtilizationFeed) -> None:
    worker = Worker(feed)
    for tick in range(5000):
        worker.set_busy(tick % 3, tick * 0.2)
        worker.report(tick * 0.2)
    assert len(feed._versions[KEY].by_worker["w1"]._points) <= 2 * HISTORY_POINTS
    assert feed.observe(KEY, 1.0, 5000 * 0.2 - 0.2).busy_mean == pytest.approx(1.0, abs=0.5)
    assert not feed.observe(KEY, 900.0, 5000 * 0.2 - 0.2).complete


def told(worker: str, at_s: float, busy: int, total: int, waiting: int, slot_seconds: float) -> UsageReport:
    usage = VersionUsage(*KEY, busy, total, waiting, slot_seconds, {f"r-{worker}": busy} if busy else {})
    return UsageReport(worker, at_s, (usage,))


def test_every_worker_reports_requests_and_only_the_owner_slots(feed: UtilizationFeed) -> None:
    feed.apply(told("owner", 10.0, busy=3, total=8, waiting=1, slot_seconds=0.0), 10.0)
    feed.apply(told("borrower", 10.0, busy=4, total=0, waiting=2, slot_seconds=0.0), 10.0)
    feed.apply(told("owner", 11.0, busy=3, total=8, waiting=1, slot_seconds=3.0), 11.0)
    feed.apply(told("borrower", 11.0, busy=4, total=0, waiting=2, slot_seconds=4.0), 11.0)
    seen = feed.observe(KEY, 1.0, 11.0)
    assert (seen.busy, seen.total_slots, seen.waiting, seen.busy_mean) == (7, 8, 3, 7.0)
    assert feed.busy_by_replica(KEY) == {"r-owner": 3, "r-borrower": 4}


def test_when_the_owner_changes_the_slots_are_counted_from_the_new_reporter(feed: UtilizationFeed) -> None:
    feed.apply(told("old", 10.0, busy=1, total=8, waiting=0, slot_seconds=0.0), 10.0)
    feed.apply(told("old", 10.2, busy=1, total=0, waiting=0, slot_seconds=0.2), 10.2)
    feed.apply(told("new", 10.2, busy=0, total=8, waiting=0, slot_seconds=0.0), 10.2)
    assert feed.observe(KEY, 0.2, 10.2).total_slots == 8


def test_a_borrowers_usage_before_its_first_report_is_load_of_this_period(feed: UtilizationFeed) -> None:
    for worker in ("owner", "borrower"):
        feed.apply(UsageReport(worker, 10.0, ()), 10.0)
        feed.apply(UsageReport(worker, 11.0, ()), 11.0)
    feed.apply(told("owner", 11.2, busy=0, total=4, waiting=0, slot_seconds=0.0), 11.2)
    # Four slots for half of the 200 ms, and all of them given back by now.
    feed.apply(told("borrower", 11.2, busy=0, total=0, waiting=0, slot_seconds=0.4), 11.2)
    seen = feed.observe(KEY, 1.0, 11.2)
    assert seen.complete
    assert seen.busy_mean == pytest.approx(0.4)
