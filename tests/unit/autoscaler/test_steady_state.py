"""The rule in a closed circle: a version replayed in virtual time is scaled by it, and settles at the number of the
formula.

Arrivals are evenly spaced, service takes a fixed time, and a replica needs 0.5 s to start.
"""

import pytest

from autoscaler.simulation.replay import ReplayResult, ReplaySettings, replay
from autoscaler.sizing import replicas_for
from serving.endpoint import AutoscalePolicy

Requests = list[tuple[float, float]]


def even(rps: float, seconds: float, start_s: float, end_s: float) -> Requests:
    """(arrival, service time) of an even load."""
    return [(start_s + number / rps, seconds) for number in range(int((end_s - start_s) * rps))]


def replayed(requests: Requests, slots: int = 1, **policy: float) -> ReplayResult:
    scaled = AutoscalePolicy(**policy)  # type: ignore[arg-type]
    return replay(requests, ReplaySettings(scaled, slots, start_s=0.5, queue_wait_s=60.0))


COMBINATIONS = [
    # requests per second, seconds each, slots per replica, target
    (20, 10, 1, 0.70),
    (20, 10, 4, 0.70),
    (5, 1, 1, 0.70),
    (50, 0.1, 1, 0.70),
    (10, 0.3, 1, 0.70),
    (10, 0.35, 1, 0.50),
    (4, 2.5, 1, 0.80),
    (4, 2.5, 2, 0.80),
    (1, 0.5, 1, 0.70),
    (1, 6, 1, 0.60),
    (2, 3, 1, 0.90),
    (25, 0.04, 1, 0.70),
    (40, 0.25, 8, 0.70),
    (40, 0.25, 3, 0.33),
    (8, 1.5, 2, 0.25),
    (2.5, 4, 1, 0.70),
    (12, 0.75, 5, 0.95),
    (30, 1, 1, 0.85),
    (16, 0.5, 1, 1.00),
    (0.5, 8, 1, 0.70),
]


@pytest.mark.parametrize(("rps", "seconds", "slots", "target"), COMBINATIONS)
def test_an_even_load_settles_within_one_replica_of_the_sizing_formula(
    rps: float, seconds: float, slots: int, target: float
) -> None:
    result = replayed(even(rps, seconds, 0.0, 300.0), slots, max_replicas=1000, target_utilization=target)
    settled = [number for at_s, number in result.replicas if at_s <= 200.0][-1]
    assert abs(settled - replicas_for(rps, seconds, target, slots)) <= 1
    assert [decision for decision in result.decisions if 200.0 < decision.at_s < 290.0] == []


def test_the_combinations_are_twenty_and_all_different() -> None:
    assert len(set(COMBINATIONS)) == 20


def test_a_step_from_rest_is_answered_by_the_first_decision_that_can_see_it() -> None:
    result = replayed(even(10, 2.0, 100.25, 130.0), max_replicas=50)
    second_arrival_s = 100.35  # the first one finds a free slot
    first = result.decisions[0]
    assert first.at_s == pytest.approx(second_arrival_s) and first.desired == 2
    assert max(each.desired for each in result.decisions if each.at_s < 101.5) >= 10
    assert result.waits_s[-1] <= 1.0


def test_after_the_load_the_minimum_is_back_one_window_later_and_in_one_step() -> None:
    result = replayed([*even(10, 0.5, 0.0, 120.0), (400.0, 0.5)], max_replicas=50)
    loaded = [each.desired for each in result.decisions if each.at_s <= 119.0][-1]
    assert loaded == replicas_for(10, 0.5)
    down = [each for each in result.decisions if each.at_s > 120.0]
    assert [each.desired for each in down][-1] == 1
    assert 180.0 <= down[-1].at_s <= 183.0
    assert down[-1].previous in (loaded, 2)
