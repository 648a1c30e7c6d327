"""Replay of traces: reading them, queue and slots as in the router, replicas as by the policy, oracle, suggestions."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.simulation.oracle import oracle_replica_seconds
from autoscaler.simulation.replay import ReplayResult, ReplaySettings, replay
from autoscaler.simulation.simulated_version import SimulatedVersion
from autoscaler.simulation.suggestion import suggest
from autoscaler.simulation.trace import (
    InvalidTrace,
    ServiceTimes,
    TracedRequest,
    completed,
    read_trace,
    service_times,
)
from autoscaler.sizing import replicas_for
from serving.endpoint import AutoscalePolicy

Requests = Sequence[tuple[float, float]]


def policy(least: int = 1, most: int = 10, target: float = 0.7, window_s: float = 60.0) -> AutoscalePolicy:
    return AutoscalePolicy(
        min_replicas=least, max_replicas=most, target_utilization=target, scale_down_window_s=window_s
    )


def replayed(requests: Requests, scaled: AutoscalePolicy, **changed: float) -> ReplayResult:
    return replay(requests, ReplaySettings(scaled, **changed))  # type: ignore[arg-type]


# ---- traces


def test_a_trace_is_read_in_order_of_arrival() -> None:
    lines = ["bytes,arrival,service_ms", "10, 2.5 ,300", "", ",1,"]
    assert read_trace(lines) == [TracedRequest(1.0), TracedRequest(2.5, 0.3, 10)]
    assert read_trace(["\ufeffarrival\r\n", "0\r\n"]) == [TracedRequest(0.0)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: the header must name"),
        (["arrival"], "no request"),
        (["time", "1"], r"only arrival is required \(got time\)"),
        (["arrival,arrival", "1,1"], "each once"),
        (["arrival,service_ms", "1"], r"line 2: must have 2 values, as the header \(got 1\)"),
        (["arrival", "soon"], r"line 2, column arrival: must be a number of at least 0 \(got 'soon'\)"),
        (["arrival", "1", "-1"], "line 3, column arrival"),
        (["arrival", "nan"], "line 2, column arrival"),
        (["arrival,service_ms", "1,1e30"], "line 2, column service_ms"),
        (["arrival", '"1'], "not CSV"),
    ],
)
def test_a_wrong_trace_is_refused_with_line_column_and_rule(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidTrace, match=message):
        read_trace(lines)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "uniform:3", "exponential:", "fixed:1:2", "lognormal:1:2:3"])
def test_a_wrong_distribution_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a mean in ms"):
        service_times(text)


@pytest.mark.parametrize("text", ["250", "exponential:250", "lognormal:250:0.5"])
def test_a_distribution_has_its_mean(text: str) -> None:
    times = service_times(text)
    drawn = [times.draw((number + 0.5) / 10_000) for number in range(10_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.25, rel=0.01)


def test_missing_service_times_are_drawn_from_the_recorded_ones() -> None:
    trace = [TracedRequest(0, 0.1), TracedRequest(1), TracedRequest(2, 0.5)]
    assert completed(trace, ServiceTimes(), lambda: 0.9) == [(0, 0.1), (1, 0.5), (2, 0.5)]
    assert completed([TracedRequest(1)], ServiceTimes(mean_s=0.2), lambda: 0.0) == [(1, 0.2)]


# ---- the queue


def test_requests_wait_for_the_slot_and_are_refused_after_the_queue_wait() -> None:
    result = replayed([(0.0, 1.0), (0.1, 1.0), (0.7, 1.0), (0.8, 0.1)], policy(most=1), queue_wait_s=1.0)
    assert result.waits_s == [0.0, pytest.approx(0.9)]
    assert result.refused == 2 and result.end_s == pytest.approx(2.0)


def test_slots_are_used_before_requests_wait() -> None:
    result = replayed([(0.0, 1.0)] * 5, policy(most=1), slots=4, queue_wait_s=2.0)
    assert result.waits_s == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert result.utilization == pytest.approx(5 / 8)


def test_a_replica_serves_once_it_has_started() -> None:
    result = replayed([(0.0, 10.0), (1.0, 1.0)], policy(most=2), start_s=3.0, queue_wait_s=5.0)
    # the second request finds no slot at 1.0, and the decision is made at once
    assert result.replicas[:2] == [(0.0, 1), (1.0, 2)]
    assert result.waits_s == [0.0, pytest.approx(3.0)]


# ---- the number of replicas


@pytest.mark.parametrize(("rps", "service_s", "slots"), [(20.0, 0.5, 1), (50.0, 0.3, 4), (8.0, 2.0, 2)])
def test_an_even_load_settles_at_the_number_of_the_formula(rps: float, service_s: float, slots: int) -> None:
    requests = [(number / rps, service_s) for number in range(int(rps * 400))]
    result = replayed(requests, policy(most=100, window_s=30.0), slots=slots, start_s=2.0, queue_wait_s=5.0)
    settled = [number for at_s, number in result.replicas if at_s < 390.0][-1]
    assert settled == replicas_for(rps, service_s, 0.7, slots)
    assert result.refused == 0


def test_fewer_replicas_run_after_the_window_and_idle_ones_cost_nothing_from_then_on() -> None:
    burst = [(0.0, 5.0)] * 6
    result = replayed([*burst, (200.0, 1.0)], policy(), start_s=1.0, queue_wait_s=10.0)
    assert result.most > 1
    # the load ends at 6 s; the window of 60 s begins a period later
    (lowered_s,) = [at_s for at_s, number in result.replicas if number == 1 and at_s > 0]
    assert 60.0 <= lowered_s - 6.0 <= 65.0
    assert result.replica_seconds < result.most * (lowered_s + 1) + 201.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 300), st.floats(0.001, 20)), min_size=1, max_size=120),
    st.integers(1, 4),
    st.integers(1, 5),
    st.floats(0.0, 30.0),
    st.floats(0.01, 5.0),
)
def test_every_request_is_served_or_refused_and_the_integrals_agree(
    drawn: list[tuple[float, float]], slots: int, least: int, start_s: float, queue_wait_s: float
) -> None:
    requests = sorted(drawn)
    result = replayed(
        requests, policy(least, least + 3, window_s=5.0), slots=slots, start_s=start_s, queue_wait_s=queue_wait_s
    )
    assert len(result.waits_s) + result.refused == len(requests)
    assert all(0 <= wait_s <= queue_wait_s + 1e-9 for wait_s in result.waits_s)
    assert 0 <= result.utilization <= 1 + 1e-9
    ends = [at_s for at_s, _ in result.replicas[1:]] + [result.end_s]
    total = sum(number * (end_s - at_s) for (at_s, number), end_s in zip(result.replicas, ends, strict=True))
    assert result.replica_seconds == pytest.approx(total, abs=1e-6)


def test_a_replay_is_repeatable() -> None:
    draw = random.Random(7)
    requests = [(at_s / 20, draw.expovariate(2)) for at_s in range(2000)]
    assert replayed(requests, policy()) == replayed(requests, policy())


# ---- the oracle


@pytest.mark.parametrize(
    ("requests", "cost"),
    [
        ([(10.0, 1.0)], 11.0),  # the minimum of one replica all the time
        ([(0.0, 10.0), (0.0, 10.0)], 10.0 + 5.0 + 10.0),  # a second one with its start
        ([(0.0, 10.0), (0.0, 1.0), (4.0, 1.0)], 10.0 + 5.0 + 1.0 + 3.0 + 1.0),  # kept over a gap shorter than a start
        ([(0.0, 30.0), (0.0, 1.0), (20.0, 1.0)], 30.0 + 2 * 6.0),  # started again after a longer one
    ],
)
def test_the_oracle_starts_and_keeps_replicas_with_foresight(requests: Requests, cost: float) -> None:
    assert oracle_replica_seconds(requests, 1, 1, 10, 5.0, 0.5) == pytest.approx(cost)


def test_the_oracle_serves_no_request_that_the_maximum_would_refuse() -> None:
    requests = [(0.0, 10.0), (0.0, 10.0), (5.0, 1.0)]
    assert oracle_replica_seconds(requests, 1, 1, 1, 5.0, 0.5) == pytest.approx(10.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0.01, 20)), min_size=1, max_size=80), st.floats(0, 30))
def test_the_oracle_needs_the_busy_time_at_least_and_no_more_than_the_policy_without_refusals(
    drawn: list[tuple[float, float]], start_s: float
) -> None:
    requests = sorted(drawn)
    oracle = oracle_replica_seconds(requests, 1, 1, 100, start_s, 1000.0)
    assert oracle >= sum(service_s for _, service_s in requests) - 1e-6
    result = replayed(requests, policy(len(requests), len(requests)), start_s=start_s)
    assert result.refused == 0
    assert oracle <= result.replica_seconds + start_s * len(requests) + 1e-6


# ---- suggestions


def test_the_suggestion_keeps_the_goal_and_is_the_cheapest_tried() -> None:
    draw = random.Random(3)
    requests = [(at_s / 10, draw.expovariate(2)) for at_s in range(3000)]
    tried: list[ReplayResult] = []
    best = suggest(requests, ReplaySettings(start_s=5.0), 0.05, tried.append)
    assert best is not None
    assert best.refused == 0 and best.wait_s(0.99) <= 0.05
    again = replay(requests, best.settings)
    assert (again.replica_seconds, again.refused) == (best.replica_seconds, 0)
    holding = [each for each in tried if not each.refused and each.wait_s(0.99) <= 0.05]
    assert best.replica_seconds == min(each.replica_seconds for each in holding)


def test_fewer_replicas_end_starting_ones_first_and_one_for_each() -> None:
    version = SimulatedVersion(slots=1, queue_wait_s=1.0, start_s=5.0, replicas=2)
    assert len(version.scale(5)) == 3
    version.scale(4)
    assert (version.number, version.facts().starting) == (4, 2)
    version.scale(1)
    assert (version.number, version.facts().starting, version.running) == (1, 0, 1)
