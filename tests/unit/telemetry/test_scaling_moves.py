"""Scaling decisions and recent traffic in the history."""

from serving.endpoint import VersionKey
from telemetry.history.kept_history import from_bytes, to_bytes
from telemetry.history.metric_history import (
    MAX_REASON,
    MOVES_PER_VERSION,
    RATE_POINTS,
    HistorySpan,
    MetricHistory,
    ScalingMove,
)
from tests.unit.telemetry.history_scrapes import KEY, ONE, version, worker

START = 1_200_000


def move(at_s: float, reason: str = "demand") -> ScalingMove:
    return ScalingMove(at_s, 1, 2, reason)


def test_moves_are_those_of_the_span_and_survive_a_restart() -> None:
    history = MetricHistory(START)
    history.record(START + 10, [worker()], ONE, [(KEY, move(START + 5, "x" * 1000))])
    history.record(START + 1000, [worker()], ONE, [(KEY, move(START + 995)), (VersionKey("no", "one"), move(1.0))])
    again = from_bytes(to_bytes(history), START + 1001.0)
    for each in (history, again):
        assert [found.time_s for found in each.moves_of(KEY, HistorySpan.MINUTES)] == [START + 995]
        hour = each.moves_of(KEY, HistorySpan.HOUR)
        assert [found.time_s for found in hour] == [START + 5, START + 995]
        assert len(hour[0].reason) == MAX_REASON and len(each.moves) == 2


def test_moves_are_bounded_and_end_with_their_version() -> None:
    history = MetricHistory(START)
    moves = [(KEY, move(START + number / 100)) for number in range(3 * MOVES_PER_VERSION)]
    history.record(START + 10, [worker()], ONE, moves)
    assert len(history.moves_of(KEY, HistorySpan.DAY)) == MOVES_PER_VERSION
    history.record(START + 20, [worker()], {})
    assert history.moves_of(KEY, HistorySpan.DAY) == [] and len(history.moves) == 0


def test_recent_traffic_is_that_of_the_last_minute() -> None:
    history = MetricHistory(START)
    for number in range(1, 10):
        codes = {200: 7 * number, 404: 2 * number, 503: number}
        history.record(START + 10 * number, [worker(version(codes))], ONE)
    found = history.recent(KEY)
    assert found is not None
    assert (found.seconds, found.requests, found.failures, found.server_failures) == (60, 60, 18, 6)
    assert found.p95_s is not None and 0.025 < found.p95_s < 0.05
    assert history.recent(VersionKey("no", "one")) is None


def test_rates_have_a_place_for_every_interval() -> None:
    history = MetricHistory(START)
    history.record(START + 10, [worker(version({200: 20}))], ONE)
    history.record(START + 30, [worker(version({200: 60}))], ONE)
    assert history.rates(KEY) == [0.0] * (RATE_POINTS - 3) + [2.0, 0.0, 2.0]
    assert history.rates(VersionKey("no", "one")) == [0.0] * RATE_POINTS
