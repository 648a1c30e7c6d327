"""Every event is counted once, in the right bucket, and reported completely."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.link import WorkerMetrics
from router.metrics import DURATION_BOUNDS_S, ROUTING_BOUNDS_S, WAIT_BOUNDS_S, HistogramBuckets, WorkerStats
from serving.endpoint import VersionKey

BLUE = VersionKey("iris", "blue")


def taken(stats: WorkerStats, violations: int = 0) -> WorkerMetrics:
    versions = tuple(each.snapshot(key) for key, each in stats.versions.items())
    return stats.snapshot("w", versions, violations, 1.5, 1000)


def test_a_value_on_a_bound_belongs_below_it_as_prometheus_has_it() -> None:
    buckets = HistogramBuckets((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.5, 2.0, 2.1, 1e9):
        buckets.observe(seconds)
    assert buckets.snapshot().counts == (2, 2, 2)


def test_requests_with_and_without_queue_wait_are_counted_apart() -> None:
    buckets = HistogramBuckets(WAIT_BOUNDS_S)
    buckets.observe(0.0)
    buckets.observe(1e-9)
    assert buckets.snapshot().counts[:2] == (1, 1)


@given(st.lists(st.floats(0, 1000, allow_nan=False)))
def test_no_observation_is_lost(seconds: list[float]) -> None:
    buckets = HistogramBuckets(DURATION_BOUNDS_S)
    for value in seconds:
        buckets.observe(value)
    told = buckets.snapshot()
    assert sum(told.counts) == len(seconds) and told.sum_s == sum(seconds)
    for index, bound in enumerate(told.bounds_s):
        assert sum(told.counts[: index + 1]) == sum(value <= bound for value in seconds)


def test_bounds_rise_and_there_is_one_count_more_than_bounds() -> None:
    for bounds in (DURATION_BOUNDS_S, WAIT_BOUNDS_S, ROUTING_BOUNDS_S):
        assert list(bounds) == sorted(set(bounds))
        assert len(HistogramBuckets(bounds).snapshot().counts) == len(bounds) + 1
        assert bisect_left(bounds, float("inf")) == len(bounds)


def test_a_snapshot_does_not_change_afterwards() -> None:
    stats = WorkerStats()
    stats.version(BLUE).requests[200] += 1
    stats.counters["retries"] += 1
    told = taken(stats)
    stats.version(BLUE).requests[200] += 1
    stats.version(BLUE).duration.observe(1.0)
    stats.counters["retries"] += 1
    assert told.versions[0].requests == {200: 1} and sum(told.versions[0].duration.counts) == 0
    assert told.counters["retries"] == 1


@given(st.lists(st.tuples(st.sampled_from(["blue", "green"]), st.floats(0, 10), st.booleans())))
def test_the_routing_of_all_versions_together_is_that_of_each(requests: list[tuple[str, float, bool]]) -> None:
    stats = WorkerStats()
    for version, routing_s, tallied in requests:
        stats.version(VersionKey("iris", version)).observe(200, 20.0, 0.0, routing_s)
        if tallied:
            stats.tally()
    stats.tally()
    each = [version.routing.snapshot() for version in stats.versions.values()]
    assert stats.routed == sum(sum(one.counts) for one in each) == len(requests)
    assert stats.routing_s == pytest.approx(sum(one.sum_s for one in each))


def test_the_routed_requests_of_a_removed_version_still_count() -> None:
    stats = WorkerStats()
    stats.version(BLUE).observe(200, 1.0, 0.0, 0.25)
    stats.forget(BLUE)
    stats.tally()
    assert (stats.routed, stats.routing_s) == (1, 0.25)


def test_the_longest_lag_is_that_since_the_snapshot_before() -> None:
    stats = WorkerStats()
    stats.connections, stats.loop_lag_s = 5, 0.3
    told = taken(stats, violations=2)
    assert (told.worker, told.connections, told.slot_violations, told.loop_lag_s) == ("w", 5, 2, 0.3)
    assert taken(stats).loop_lag_s == 0.0
