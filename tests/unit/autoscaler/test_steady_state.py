"""The rule in a closed circle: a version simulated in virtual time is scaled by it, and settles at the number of
the formula.

Arrivals are evenly spaced, service takes a fixed time, a FIFO feeds slots × ready replicas, and a replica needs 0.5 s
to start. The rule is asked every second, and at most every 50 ms when an arrival finds no free slot.
"""

import heapq
from bisect import bisect_right
from collections import deque

import pytest

from autoscaler.policy import Direction, Observation, ScalingState, decide
from autoscaler.sizing import replicas_for
from serving.endpoint import AutoscalePolicy, VersionKey

KEY = VersionKey("iris", "blue")
START_DELAY_S = 0.5
POKE_GAP_S = 0.05


class Simulation:
    """One version under an even load, event by event."""

    def __init__(self, policy: AutoscalePolicy, slots: int, service_s: float) -> None:
        self.policy, self.slots, self.service_s = policy, slots, service_s
        self.state = ScalingState(policy.min_replicas)
        self.now = 0.0
        self.ready = policy.min_replicas
        self.busy = 0
        self.most_waiting_s = 0.0
        self.changes: list[tuple[float, int]] = []
        self._queue: deque[float] = deque()
        self._integral: list[tuple[float, float]] = [(0.0, 0.0)]
        self._events: list[tuple[float, int, int, str]] = []
        self._decided_s = -1.0
        self._poked = False
        self._at(0.0, "tick")

    def load(self, rps: float, start_s: float, end_s: float) -> None:
        for number in range(int((end_s - start_s) * rps)):
            self._at(start_s + number / rps, "arrival")

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            at_s, _, _, event = heapq.heappop(self._events)
            last_s, last = self._integral[-1]
            self._integral.append((at_s, last + self.busy * (at_s - last_s)))
            self.now = at_s
            getattr(self, f"_on_{event}")()

    def _at(self, at_s: float, event: str) -> None:
        # Of events at one instant the end of a service comes first, then replicas, arrivals and decisions.
        order = ("departure", "started", "arrival", "poke", "tick").index(event)
        heapq.heappush(self._events, (at_s, order, len(self._integral) + len(self._events), event))

    def _on_arrival(self) -> None:
        self._queue.append(self.now)
        self._match()
        if self._queue and not self._poked:
            self._poked = True
            self._at(max(self.now, self._decided_s + POKE_GAP_S), "poke")

    def _on_departure(self) -> None:
        self.busy -= 1
        self._match()

    def _on_started(self) -> None:
        self.ready = min(self.ready + 1, self.state.desired)
        self._match()

    def _on_poke(self) -> None:
        self._poked = False
        self._decide()

    def _on_tick(self) -> None:
        self._at(self.now + self.policy.refresh_period_s, "tick")
        self._decide()

    def _match(self) -> None:
        while self._queue and self.busy < self.slots * self.ready:
            self.most_waiting_s = max(self.most_waiting_s, self.now - self._queue.popleft())
            self.busy += 1
            self._at(self.now + self.service_s, "departure")

    def _decide(self) -> None:
        self._decided_s = self.now
        observation = Observation(self._mean(), self.busy, len(self._queue), self.slots * self.ready, complete=True)
        self.state, decision = decide(KEY, self.policy, self.slots, self.state, observation, self.now, self.now)
        if decision.direction is not Direction.HOLD:
            self.changes.append((self.now, decision.desired))
        for _ in range(decision.desired - decision.previous):
            self._at(self.now + START_DELAY_S, "started")
        self.ready = min(self.ready, decision.desired)

    def _mean(self) -> float:
        start_s = self.now - self.policy.refresh_period_s
        after = bisect_right(self._integral, (start_s, float("inf")))
        if after == 0:
            return self._integral[-1][1] / self.policy.refresh_period_s
        (left_s, left), (right_s, right) = (
            self._integral[after - 1],
            self._integral[min(after, len(self._integral) - 1)],
        )
        span_s = right_s - left_s
        start = left + (right - left) * (start_s - left_s) / span_s if span_s else left
        return (self._integral[-1][1] - start) / self.policy.refresh_period_s


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
    simulation = Simulation(AutoscalePolicy(max_replicas=1000, target_utilization=target), slots, seconds)
    simulation.load(rps, 0.0, 300.0)
    simulation.run(200.0)
    simulation.changes.clear()
    simulation.run(290.0)
    assert abs(simulation.state.desired - replicas_for(rps, seconds, target, slots)) <= 1
    assert simulation.changes == []


def test_the_combinations_are_twenty_and_all_different() -> None:
    assert len(set(COMBINATIONS)) == 20


def test_a_step_from_rest_is_answered_by_the_first_decision_that_can_see_it() -> None:
    simulation = Simulation(AutoscalePolicy(max_replicas=50), 1, 2.0)
    simulation.load(10, start_s=100.25, end_s=130.0)
    simulation.run(130.0)
    second_arrival_s = 100.35  # the first one finds a free slot
    at_s, desired = simulation.changes[0]
    assert at_s == pytest.approx(second_arrival_s) and desired == 2
    assert max(desired for at_s, desired in simulation.changes if at_s < 101.5) >= 10
    assert simulation.most_waiting_s <= 1.0


def test_after_the_load_the_minimum_is_back_one_window_later_and_in_one_step() -> None:
    simulation = Simulation(AutoscalePolicy(max_replicas=50), 1, 0.5)
    simulation.load(10, 0.0, 120.0)
    simulation.run(119.0)
    loaded = simulation.state.desired
    assert loaded == replicas_for(10, 0.5)
    simulation.run(300.0)
    last_s, desired = simulation.changes[-1]
    assert desired == 1
    assert 180.0 <= last_s <= 183.0
    assert simulation.changes[-2][1] in (loaded, 2)
