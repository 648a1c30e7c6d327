"""Rings of the history: points, growth of counters, spans, restarts, bounds."""

import statistics

import pytest

from router.metrics import DURATION_BOUNDS_S
from serving.endpoint import VersionKey
from telemetry.history.bucket_quantiles import LONGEST_S, deviation_bound, quantiles
from telemetry.history.kept_history import DamagedHistory, from_bytes, to_bytes
from telemetry.history.metric_history import COARSE_POINTS, FINE_POINTS, HistorySpan, MetricHistory
from telemetry.history.point_ring import MAX_CODES, OTHER_CODES, HistoryPoint, ReplicaNumbers
from tests.unit.telemetry.history_scrapes import KEY, ONE, histogram, version, worker

START = 1_200_000


def recorded(count: int, per_scrape: int = 10, failures: int = 1) -> MetricHistory:
    """A history of scrapes 10 s apart, each with as many requests more."""
    history = MetricHistory(START)
    for number in range(1, count + 1):
        codes = {200: (per_scrape - failures) * number, 503: failures * number}
        history.record(START + 10 * number, [worker(version(codes))], ONE)
    return history


def newest(history: MetricHistory, span: HistorySpan = HistorySpan.HOUR) -> HistoryPoint:
    return history.points(KEY, span)[-1]


def test_a_point_has_rates_failures_latencies_waits_utilization_and_replicas() -> None:
    history = MetricHistory(START)
    history.record(START + 10, [worker(version({200: 18, 503: 2}, duration_s=0.04, wait_s=0.02))], ONE)
    (point,) = history.points(KEY, HistorySpan.MINUTES)
    assert (point.time_s, point.seconds, point.requests, point.failures) == (START + 10, 10, 20, {503: 2})
    assert point.mean_s == pytest.approx(0.04, rel=1e-3)
    assert point.queue_wait_mean_s == pytest.approx(0.02, rel=1e-3)
    assert (point.p50_s, point.p99_s) == pytest.approx((0.0375, 0.025 + 0.025 * 0.99), rel=1e-3)
    assert point.utilization == pytest.approx(0.25, abs=1e-4)
    assert (point.ready, point.wanted) == (1, 2)


def test_quantiles_lie_within_one_bucket_of_the_exact_ones() -> None:
    values = sorted(0.0005 * 1.01**number for number in range(1200))
    counts = histogram(DURATION_BOUNDS_S, values).counts
    for share, found in zip((0.5, 0.95, 0.99), quantiles(DURATION_BOUNDS_S, counts, (0.5, 0.95, 0.99)), strict=True):
        exact = values[int(share * len(values)) - 1]
        upper = next(bound for bound in DURATION_BOUNDS_S if bound >= exact)
        lower = max((bound for bound in DURATION_BOUNDS_S if bound < exact), default=0.0)
        assert lower <= found <= upper
    assert list(quantiles((1.0,), (0, 3), (0.5,))) == [1.0]


@pytest.mark.parametrize(
    "values_s",
    [[0.055, 0.06, 0.07], [0.051, 0.099, 0.3, 2.0], [0.0001] * 5, [250.0, 400.0], [0.05] * 3 + [300.0], [0.1]],
)
def test_the_bound_of_the_deviation_is_above_it(values_s: list[float]) -> None:
    found = histogram(DURATION_BOUNDS_S, values_s)
    bound = deviation_bound(found.bounds_s, found.counts, found.sum_s)
    assert bound >= statistics.pstdev(values_s) - 1e-9
    assert bound < LONGEST_S


def test_the_bound_of_the_deviation_is_reached_by_values_on_the_bounds() -> None:
    values_s = [0.05000001] * 3 + [0.1] * 2 + [0.25] * 4
    found = histogram(DURATION_BOUNDS_S, values_s)
    bound = deviation_bound(found.bounds_s, found.counts, found.sum_s)
    assert bound == pytest.approx(statistics.pstdev(values_s), rel=1e-3)
    assert deviation_bound((1.0, 2.0), (0, 4, 0), 6.0) == pytest.approx(0.5)


def test_a_version_without_requests_has_replicas_and_no_latencies() -> None:
    history = MetricHistory(START)
    history.record(START + 10, [worker(version({}, busy=0))], ONE)
    point = newest(history)
    assert (point.requests, point.p99_s, point.queue_wait_p95_s, point.utilization) == (0, None, None, 0.0)
    assert newest(history, HistorySpan.DAY).wanted == 2


def test_counters_that_restart_never_make_a_point_negative() -> None:
    history = MetricHistory(START)
    scrapes = [
        [worker(version({200: 100}), name="a"), worker(version({200: 10}), name="b")],
        [worker(version({200: 100, 500: 3}), name="a"), worker(version({200: 4}), name="b")],
        [worker(version({200: 7}), name="c")],
        [],
        [worker(version({200: 9}), name="c")],
    ]
    for number, workers in enumerate(scrapes, 1):
        history.record(START + 10 * number, workers, ONE)
    points = history.points(KEY, HistorySpan.HOUR)
    assert [(point.requests, point.failures) for point in points] == [
        (110, {}),
        (3 + 4, {500: 3}),
        (7, {}),
        (0, {}),
        (9, {}),
    ]


def test_each_span_has_its_points() -> None:
    history = recorded(FINE_POINTS + 61)
    minutes, hour, day = (history.points(KEY, span) for span in HistorySpan)
    assert (len(minutes), len(hour)) == (30, FINE_POINTS)
    assert hour[-30:] == minutes
    assert [point.time_s for point in day[:2]] == [START + 300, START + 600]
    assert all(point.requests == 300 and point.failures == {503: 30} for point in day[:-1])
    assert day[-1].requests == 10
    assert day[-1].seconds == 10
    assert sum(point.requests for point in day) == 10 * (FINE_POINTS + 61)


def test_points_older_than_the_span_are_left_out() -> None:
    history = MetricHistory(START)
    for number in range(1, COARSE_POINTS + 20):
        history.record(START + 300 * number, [worker(version({200: number}))], ONE)
    day = history.points(KEY, HistorySpan.DAY)
    assert len(day) <= COARSE_POINTS + 1
    assert day[0].time_s >= day[-1].time_s - HistorySpan.DAY.seconds
    pause_s = 2 * 3600
    history.record(history.fine.newest * 10 + pause_s, [worker(version({200: 5}))], ONE)
    assert len(history.points(KEY, HistorySpan.HOUR)) == 1
    assert newest(history).seconds == pause_s


def test_two_scrapes_in_one_interval_lose_no_request() -> None:
    history = MetricHistory(START)
    history.record(START + 10, [worker(version({200: 5}))], ONE)
    history.record(START + 12, [worker(version({200: 8}))], ONE)
    history.record(START + 20, [worker(version({200: 9}))], ONE)
    assert [point.requests for point in history.points(KEY, HistorySpan.HOUR)] == [5, 4]


def test_a_clock_that_is_set_back_drops_the_points_of_the_future() -> None:
    history = recorded(100)
    history.record(START + 500, [worker(version({200: 2000}))], ONE)
    history.record(START + 510, [worker(version({200: 2001}))], ONE)
    points = history.points(KEY, HistorySpan.HOUR)
    assert [point.time_s for point in points[-2:]] == [START + 500, START + 510]
    assert all(point.seconds > 0 for point in points)
    assert [point.time_s for point in history.points(KEY, HistorySpan.DAY)] == sorted({START + 300, points[-1].time_s})


def test_a_version_that_is_removed_has_no_history() -> None:
    history = recorded(3)
    history.record(START + 40, [worker(version({200: 99}))], {VersionKey("iris", "green"): ReplicaNumbers(0, 0)})
    assert history.points(KEY, HistorySpan.HOUR) == []
    assert set(history.versions) == {VersionKey("iris", "green")}


def test_codes_beyond_the_limit_share_one_column() -> None:
    history = MetricHistory(START)
    codes = {400 + number: number + 1 for number in range(MAX_CODES + 3)}
    history.record(START + 10, [worker(version(codes))], ONE)
    for span in (HistorySpan.HOUR, HistorySpan.DAY):
        point = newest(history, span)
        assert len(point.failures) == MAX_CODES + 1
        assert point.failed == sum(codes.values())
        assert point.failures[OTHER_CODES]


def test_the_size_of_a_version_is_bounded() -> None:
    history = MetricHistory(START)
    for number in range(1, 600):
        codes = {200: number, **{400 + n % 200: number for n in range(number % 150)}}
        history.record(START + 10 * number, [worker(version(codes))], ONE)
    assert history.size_bytes() <= (FINE_POINTS + COARSE_POINTS) * (24 + 4 * (MAX_CODES + 1))
    assert len(to_bytes(history)) <= history.size_bytes() + 10_000


def test_a_history_goes_on_after_a_restart() -> None:
    history = recorded(100)
    again = from_bytes(to_bytes(history), START + 1015)
    for span in HistorySpan:
        assert again.points(KEY, span) == history.points(KEY, span)
    again.record(START + 1020, [worker(version({200: 6}))], ONE)
    assert (newest(again).requests, newest(again).seconds) == (6, 5)
    assert newest(again, HistorySpan.DAY).requests == 100 % 30 * 10 + 6
    assert again.points(KEY, HistorySpan.HOUR)[:-1] == history.points(KEY, HistorySpan.HOUR)


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "format", "column"])
def test_damaged_bytes_are_refused(harm: str) -> None:
    history = recorded(40)
    if harm == "column":
        history.versions[KEY].fine.ready.pop()
    data = to_bytes(history)
    damaged = {
        "cut": data[:-5],
        "flipped": bytes([data[0] ^ 0xFF]) + data[1:],
        "empty": b"",
        "format": data.replace(b"\xa6format\x02", b"\xa6format\x01"),
        "column": data,
    }
    with pytest.raises(DamagedHistory):
        from_bytes(damaged[harm], START + 500)
