"""Recorded arrivals of requests: their bounds, and their order."""

import math

from router.metrics import WorkerStats
from router.request_trace import KEPT_S, RequestTrace, trim
from serving.endpoint import VersionKey


def traced(*requests: tuple[float, float, int]) -> RequestTrace:
    trace = RequestTrace()
    for request in requests:
        trace.numbers.extend(request)
    return trace


def test_requests_since_a_time_are_ordered_by_arrival() -> None:
    trace = traced((5.0, 0.5, 10), (4.0, math.nan, 20), (1.0, 9.0, 30))
    assert len(trace) == 3
    found = trace.since(4.0, now=11.0)
    assert [(age_s, size) for age_s, _, size in found] == [(7.0, 20), (6.0, 10)]
    assert math.isnan(found[0][1])


def test_an_hour_is_kept() -> None:
    trace = traced((0.0, 1.0, 1), (10.0, 1.0, 2), (KEPT_S + 5.0, 1.0, 3))
    trim([trace], now=KEPT_S + 5.0)
    assert [size for _, _, size in trace.since(0.0, 0.0)] == [2, 3]
    trim([trace], now=10 * KEPT_S)
    assert len(trace) == 0


def test_the_longest_traces_lose_their_oldest_records_first() -> None:
    long, short = traced(*((float(at), 1.0, at) for at in range(100))), traced((50.0, 1.0, 7))
    trim([long, short], now=100.0, most=11)
    assert len(long) == 10 and len(short) == 1
    assert [size for _, _, size in long.since(0.0, 0.0)] == list(range(90, 100))


def test_the_statistics_of_a_worker_trim_all_versions() -> None:
    stats = WorkerStats()
    stats.version(VersionKey("iris", "blue")).trace.numbers.extend((0.0, 1.0, 1))
    stats.trim_traces(2 * KEPT_S)
    assert len(stats.version(VersionKey("iris", "blue")).trace) == 0
