"""The rule for replicas that start slowly, fail or find no room: a version in virtual time, second by second."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy import Direction, Observation, ScalingState, decide
from autoscaler.replica_facts import ReplicaFacts
from serving.endpoint import AutoscalePolicy, VersionKey

KEY = VersionKey("iris", "blue")
STEP_S = 0.5


@dataclass
class BurstyVersion:
    """One-slot replicas that take `start_s` to start, under bursts; a request without a free slot is refused at once.

    `room`: most replicas that find a place. `fails`: no replica gets ready but the first `well` ones.
    """

    policy: AutoscalePolicy
    start_s: float
    room: int = 1000
    fails: bool = False
    well: int = 1
    now: float = 0.0
    ready: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    """Burst -> requests refused."""
    starts: int = 0
    stopped_while_starting: int = 0
    desired: list[int] = field(default_factory=list)
    rules: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ready = min(self.well, self.policy.min_replicas)
        self._due: list[float] = []
        self._failing = self.policy.min_replicas - self.ready
        self._state = ScalingState(self.policy.min_replicas)

    def run(self, bursts: int, every_s: float, size: int, work_s: float = 1.0) -> "BurstyVersion":
        for number in range(bursts):
            self.refused[number] = max(0, size - self.ready)
            busy = size - self.refused[number]
            self._decide(Observation(0.0, busy, self.refused[number], self.ready, True))
            end_s = self.now + every_s
            busy_mean = busy * work_s
            while self.now < end_s:
                self.now += STEP_S
                self._start()
                self._decide(Observation(busy_mean, 0, 0, self.ready, True))
                busy_mean = 0.0
        return self

    def _start(self) -> None:
        self.ready += sum(due_s <= self.now for due_s in self._due)
        self._due = [due_s for due_s in self._due if due_s > self.now]

    def _decide(self, observation: Observation) -> None:
        placed = self.ready + len(self._due) + self._failing
        unplaced = max(0, self._state.desired - placed)
        known_s = self.start_s if self.ready else 0.0
        facts = ReplicaFacts(self.ready, self._failing, len(self._due), unplaced, known_s)
        self._state, decision = decide(KEY, self.policy, 1, self._state, observation, self.now, self.now, facts)
        self.desired.append(decision.desired)
        self.rules.add(decision.rule)
        if decision.direction is Direction.DOWN:
            self.stopped_while_starting += len(self._due)
            self.ready, self._due, self._failing = min(self.ready, decision.desired), [], 0
        for _ in range(min(decision.desired, self.room) - placed):
            self.starts += 1
            if self.fails:
                self._failing += 1
            else:
                self._due.append(self.now + self.start_s)


def policy(window_s: float, most: int = 5, least: int = 1) -> AutoscalePolicy:
    return AutoscalePolicy(True, least, most, 0.7, 1.0, window_s)


def test_a_start_longer_than_the_window_settles_instead_of_starting_for_ever() -> None:
    version = BurstyVersion(policy(window_s=60.0), start_s=90.0).run(bursts=40, every_s=75.0, size=5)
    assert version.starts == 4
    assert [version.refused[number] for number in range(40)] == [4, 4, *[0] * 38]


def test_a_scale_down_that_the_load_reverses_again_and_again_becomes_rare() -> None:
    # The mean of short requests is below the size of a burst: the rule tries fewer replicas, and is wrong each time.
    version = BurstyVersion(policy(window_s=10.0), start_s=15.0)
    starts = []
    for _ in range(8):
        before = version.starts
        version.run(bursts=24, every_s=12.5, size=5, work_s=0.35)
        starts.append(version.starts - before)
    assert starts[0] <= 12 and sum(starts[4:]) <= 6


def test_a_quick_start_leaves_the_declared_window_as_it_is() -> None:
    version = BurstyVersion(policy(window_s=60.0), start_s=3.0).run(bursts=5, every_s=75.0, size=5)
    assert version.starts == 5 * 4 and all(version.refused[number] == 4 for number in range(5))
    assert max(version.desired) == 5 and version.desired[-1] == 1


starts_s = st.integers(1, 400).map(lambda quarters: quarters / 4)
windows_s = st.integers(1, 60).map(float)


@given(starts_s, windows_s, st.integers(1, 400).map(lambda quarters: quarters / 4), st.integers(1, 12))
def test_no_replica_is_stopped_while_it_starts_and_bursts_within_a_start_time_settle(
    start_s: float, window_s: float, every_s: float, size: int
) -> None:
    version = BurstyVersion(policy(window_s, most=12), start_s).run(12, every_s, size)
    assert version.stopped_while_starting == 0
    if every_s <= max(start_s, window_s) - 2.0:
        assert version.starts <= 11
        settled = int(2 * start_s / every_s) + 2
        assert all(version.refused[number] == 0 for number in range(settled, 12) if size <= 12)


@given(windows_s, st.integers(1, 30).map(float), st.integers(1, 12), st.integers(1, 3))
def test_waiting_requests_do_not_multiply_replicas_that_fail(
    window_s: float, every_s: float, size: int, least: int
) -> None:
    version = BurstyVersion(policy(window_s, most=12, least=least), 5.0, fails=True, well=0).run(12, every_s, size)
    assert version.starts == 0 and set(version.desired) == {least}
    assert "failing" in version.rules or size * 10 <= least * 7


@given(windows_s, st.integers(1, 30).map(float), st.integers(2, 12), st.integers(1, 4))
def test_waiting_requests_do_not_pile_up_replicas_without_room(
    window_s: float, every_s: float, size: int, room: int
) -> None:
    version = BurstyVersion(policy(window_s, most=12), 5.0, room=room).run(12, every_s, size)
    rises = [after for before, after in zip(version.desired, version.desired[1:], strict=False) if after > before]
    assert max(version.desired) <= 12
    assert version.stopped_while_starting == 0
    if rises and max(rises) > room:
        # Once it is known that there is no room, nothing more is asked for until it has fallen by the window.
        assert "room" in version.rules or size <= max(rises)


@given(waiting=st.integers(2, 500), least=st.integers(1, 5))
def test_waiting_requests_do_not_multiply_replicas_that_have_yet_to_show_that_they_can_start(
    waiting: int, least: int
) -> None:
    declared, observation = policy(60.0, most=1000, least=least), Observation(0.0, 0, waiting + least, 0, True)
    state, rules = ScalingState(least), set()
    for now in range(30):
        facts = ReplicaFacts(starting=state.desired, first_start=True)
        state, decision = decide(KEY, declared, 1, state, observation, float(now), float(now), facts)
        rules.add(decision.rule)
        assert decision.desired == least + 1
    assert rules == {"first start"}
    ready = ReplicaFacts(ready=1, starting=least, start_s=30.0)
    _, decision = decide(KEY, declared, 1, state, observation, 30.0, 30.0, ready)
    assert decision.desired == min(1000, -(-(waiting + least) * 10 // 7))
